//! What several test programs share. Each uses a part of it.
#![allow(dead_code, reason = "every test program uses another part")]

pub mod context;
pub mod cut;
pub mod damage;
pub mod day;
pub mod forger;
pub mod live;
pub mod page;
pub mod picture;
pub mod postgres;
pub mod programs;
pub mod random;
pub mod repository;
pub mod restored;
pub mod scheduler;
pub mod shop;
pub mod small;
pub mod state;
pub mod whole;
