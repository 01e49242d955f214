//! What schedulers, services and programs answer, of anything. The first byte chooses who speaks; for those behind a port the answer comes
//! over a real connection.
#![no_main]

use std::cell::{Cell, OnceCell};
use std::net::Ipv4Addr;

use daykeep::{database, hold};
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

thread_local! {
    static RUNTIME: OnceCell<tokio::runtime::Runtime> = const { OnceCell::new() };
    static HOSTS: Cell<u32> = const { Cell::new(0) };
}

/// Another address of this machine each time: those of ended connections rest for a minute, and one address has 28,000 ports.
fn next_host() -> Ipv4Addr {
    let number = HOSTS.with(|hosts| hosts.replace((hosts.get() + 1) % (1 << 20)));
    Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 1).to_bits() + number)
}

/// Answers one connection with these bytes as soon as it was asked something, and hangs up.
async fn answer(listener: &TcpListener, bytes: &[u8]) {
    let Ok((mut stream, _)) = listener.accept().await else { return };
    let mut question = [0; 4096];
    let _ = stream.read(&mut question).await;
    for piece in bytes.chunks(1500) {
        if stream.write_all(piece).await.is_err() {
            return;
        }
    }
    let _ = stream.shutdown().await;
}

fuzz_target!(|data: &[u8]| {
    let Some((which, bytes)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(bytes);
    if which % 4 == 0 {
        hold::fuzzing::unit(&text);
        return;
    }
    if which % 4 == 1 {
        database::fuzzing::listing(&text);
        return;
    }
    RUNTIME.with(|runtime| {
        let made = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.get_or_init(made).block_on(async {
            let listener = TcpListener::bind((next_host(), 0)).await.expect("a port");
            let address = listener.local_addr().expect("an address").to_string();
            let ask = async {
                if which % 4 == 2 {
                    hold::fuzzing::ask_and_stop(&address).await;
                } else {
                    hold::fuzzing::switch(&format!("http://{address}/")).await;
                }
            };
            tokio::select! {
                () = ask => {}
                _ = async { loop { answer(&listener, bytes).await } } => {}
            }
        });
    });
});
