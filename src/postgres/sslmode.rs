//! `sslmode`, as in libpq.

/// What `sslmode` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    /// No TLS.
    Disable,
    /// TLS if the server has it; nothing is checked.
    Prefer,
    /// TLS; the certificate is checked only when there is a root certificate file, as in libpq.
    Require,
    /// TLS, with a certificate of a known CA.
    VerifyCa,
    /// TLS, with a certificate of a known CA for this host.
    VerifyFull,
}

impl SslMode {
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "disable" => Some(Self::Disable),
            // `allow` tries without TLS first; what comes of it is TLS or not, unchecked, as with `prefer`.
            "prefer" | "allow" => Some(Self::Prefer),
            "require" => Some(Self::Require),
            "verify-ca" => Some(Self::VerifyCa),
            "verify-full" => Some(Self::VerifyFull),
            _ => None,
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}
