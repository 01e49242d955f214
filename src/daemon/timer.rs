//! The alarm clock: a timer of the kernel on the wall clock, set to an instant.
//!
//! It sleeps without waking the machine, counts the time that the machine was suspended, and fires when somebody sets the clock
//! (`TFD_TIMER_CANCEL_ON_SET`), so that what is due under the new time is looked at at once.

use std::io;
use std::os::fd::OwnedFd;

use jiff::Timestamp;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

/// An alarm clock.
#[derive(Debug)]
pub struct Timer {
    timer: AsyncFd<OwnedFd>,
}

/// Why it fired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fired {
    /// Its instant has come.
    Due,
    /// Somebody set the clock.
    ClockSet,
}

impl Timer {
    /// A timer that is not set.
    ///
    /// # Errors
    /// The kernel refuses, or there is no runtime.
    #[expect(
        deprecated,
        reason = "its successor is unsafe; an OwnedFd keeps what it asks for: the descriptor stays open"
    )]
    pub fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Realtime, flags)?;
        Ok(Self { timer: AsyncFd::new(timer)? })
    }

    /// Sets it to an instant (one that has passed fires at once), or far away, to hear of steps of the clock only.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set(&self, instant: Option<Timestamp>) -> io::Result<()> {
        let nothing = Timespec { tv_sec: 0, tv_nsec: 0 };
        let value =
            instant.map_or(Timespec { tv_sec: i64::MAX / 4_000_000_000, tv_nsec: 0 }, |instant| Timespec {
                // Nothing is due before 1970; 0 would switch the timer off.
                tv_sec: instant.as_second().max(1),
                tv_nsec: i64::from(instant.subsec_nanosecond().max(0)),
            });
        let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        timerfd_settime(&self.timer, flags, &Itimerspec { it_interval: nothing, it_value: value })?;
        Ok(())
    }

    /// Waits until it fires. May be dropped and asked again without losing anything.
    ///
    /// # Errors
    /// The kernel refuses.
    pub async fn fired(&self) -> io::Result<Fired> {
        loop {
            let mut ready = self.timer.readable().await?;
            let read = ready.try_io(|timer| {
                let mut count = [0_u8; 8];
                match rustix::io::read(timer, &mut count) {
                    Ok(_) => Ok(Fired::Due),
                    Err(rustix::io::Errno::CANCELED) => Ok(Fired::ClockSet),
                    Err(error) => Err(error.into()),
                }
            });
            // Not ready after all: wait on.
            if let Ok(fired) = read {
                return fired;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Fired, Timer};
    use crate::clock::{Clock as _, SystemClock};

    #[tokio::test]
    async fn it_fires_at_its_instant_and_not_before() {
        let clock = SystemClock::new();
        let timer = Timer::new().unwrap();
        let instant = clock.now() + jiff::SignedDuration::from_millis(120);
        timer.set(Some(instant)).unwrap();
        assert_eq!(timer.fired().await.unwrap(), Fired::Due);
        assert!(clock.now() >= instant);
    }

    #[tokio::test]
    async fn an_instant_that_has_passed_fires_at_once() {
        let timer = Timer::new().unwrap();
        timer.set(Some(jiff::Timestamp::UNIX_EPOCH)).unwrap();
        let fired = tokio::time::timeout(Duration::from_secs(5), timer.fired()).await;
        assert_eq!(fired.unwrap().unwrap(), Fired::Due);
    }

    #[tokio::test]
    async fn without_an_instant_it_waits() {
        let timer = Timer::new().unwrap();
        timer.set(Some(jiff::Timestamp::UNIX_EPOCH)).unwrap();
        timer.set(None).unwrap();
        let fired = tokio::time::timeout(Duration::from_millis(100), timer.fired()).await;
        assert!(fired.is_err(), "it was put off");
    }
}
