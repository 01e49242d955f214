//! `--to-server`: libpq's keywords and values (<https://www.postgresql.org/docs/current/libpq-connect.html>), as far as daykeep
//! takes them.

use std::collections::BTreeMap;

use crate::config::Server;

const KEYWORDS: &str = "host, port, user, dbname, service, servicefile, passfile, sslmode, sslrootcert";

/// Reads `host=/run/postgresql port=5433 user=postgres`.
pub fn parse(text: &str) -> Result<Server, String> {
    if text.contains("://") {
        return Err(format!("addresses are not understood: write it as keywords and values ({KEYWORDS})"));
    }
    let mut server = Server::default();
    for (keyword, value) in pairs(text)? {
        let value = Some(value).filter(|value| !value.is_empty());
        match keyword.as_str() {
            "host" => server.host = value,
            "port" => {
                let number = value.map(|value| value.parse().map_err(|_| format!("`{value}` is no port")));
                server.port = number.transpose()?;
            }
            "user" => server.user = value,
            "dbname" => server.dbname = value,
            "service" => server.service = value,
            "servicefile" => server.servicefile = value.map(Into::into),
            "passfile" => server.passfile = value.map(Into::into),
            "sslmode" => server.sslmode = value,
            "sslrootcert" => server.sslrootcert = value.map(Into::into),
            "password" => {
                return Err(
                    "every user of this machine can read a command's arguments: put the password into a \
                            password file (PGPASSFILE or passfile=) or a service"
                        .to_owned(),
                );
            }
            other => return Err(format!("the keyword `{other}` is not known; there are {KEYWORDS}")),
        }
    }
    Ok(server)
}

/// `keyword = value`, separated by white space; a value may stand in single quotes, and a backslash takes the next letter as it is.
fn pairs(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut pairs = BTreeMap::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let Some((keyword, after)) = rest.split_once('=') else {
            return Err(format!("`{}` has no value: write keyword=value", rest.trim_end()));
        };
        let keyword = keyword.trim();
        if keyword.is_empty() || keyword.contains(char::is_whitespace) {
            return Err(format!("`{keyword}` is no keyword: write keyword=value"));
        }
        let (value, left) = value(after.trim_start())?;
        pairs.insert(keyword.to_owned(), value);
        rest = left.trim_start();
    }
    Ok(pairs)
}

/// One value, and what stands after it.
fn value(text: &str) -> Result<(String, &str), String> {
    let (is_quoted, text) = match text.strip_prefix('\'') {
        Some(inside) => (true, inside),
        None => (false, text),
    };
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => value.extend(letters.next().map(|(_, next)| next)),
            '\'' if is_quoted => return Ok((value, &text[at + 1..])),
            letter if letter.is_whitespace() && !is_quoted => return Ok((value, &text[at..])),
            letter => value.push(letter),
        }
    }
    if is_quoted { Err("a quoted value has no end".to_owned()) } else { Ok((value, "")) }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn keywords_and_values() {
        let server = parse(r"host = '/run/my server' port=5433  user=o\'brien dbname=''").unwrap();
        assert_eq!(server.host.as_deref(), Some("/run/my server"));
        assert_eq!((server.port, server.user.as_deref()), (Some(5433), Some("o'brien")));
        assert_eq!(server.dbname, None);
    }

    #[test]
    fn what_is_wrong_is_told_and_no_password_is_repeated() {
        let wrong = |text: &str| parse(text).unwrap_err();
        assert!(wrong("host=a password=hush").contains("PGPASSFILE"));
        assert!(!wrong("host=a password=hush").contains("hush"));
        assert!(wrong("postgresql://a").contains("keywords and values"));
        assert!(wrong("host").contains("`host` has no value"));
        assert!(wrong("port=x").contains("`x` is no port"));
        assert!(wrong("hots=a").contains("`hots` is not known"));
        assert!(wrong("host='a").contains("no end"));
    }
}
