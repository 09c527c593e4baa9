//! A listener at the limit of open files accepts all the same, and does not fill the log.

use std::{
    cell::Cell,
    io,
    os::fd::OwnedFd,
    rc::Rc,
    sync::{Arc, Mutex},
};

use super::{PROXY, milliseconds, simulate_with};
use crate::{
    accept::{Entrance, Entrances, Place},
    listener::{LimitGuard, table::ListenerId},
    net::Stream,
    runtime::{sleep, spawn},
    telemetry::{AcceptCells, AcceptError, RejectReason},
};

/// Closes what is accepted.
#[derive(Default)]
struct Closes(Cell<u32>);

impl Place for Closes {
    fn place(
        &self,
        socket: OwnedFd,
        _: ListenerId,
        _: Option<LimitGuard>,
    ) -> Result<(), RejectReason> {
        self.0.set(self.0.get() + 1);
        drop(Stream::adopt(socket));
        Ok(())
    }
}

/// What the log was given.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn with(&self, text: &str) -> usize {
        let bytes = self.0.lock().unwrap();
        String::from_utf8_lossy(&bytes).lines().filter(|line| line.contains(text)).count()
    }
}

#[test]
fn successes_between_pauses_do_not_repeat_the_warning() {
    const CLIENTS: u32 = 60;
    let lines = Lines::default();
    let runs = Cell::new(0);
    let pauses = Rc::new(Cell::new(0));
    let writer = lines.clone();
    let log = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(log, || {
        let often = |_: &mut _, behaviour: &mut crate::ring::simulated::Behaviour| {
            behaviour.accept_fails = 50;
        };
        simulate_with(often, |world| {
            runs.set(runs.get() + 1);
            let pauses = Rc::clone(&pauses);
            async move {
                let place = Rc::new(Closes::default());
                let entrances = Entrances::new(Rc::clone(&place), Arc::default());
                let cells = Arc::new(AcceptCells::default());
                entrances.open(Entrance {
                    listener: ListenerId(1),
                    name: "busy".into(),
                    socket: world.listen(PROXY.into()),
                    limit: None,
                    inherited: true,
                    cells: Arc::clone(&cells),
                });
                for _ in 0..CLIENTS {
                    spawn(async {
                        if let Ok(mut stream) = Stream::connect(PROXY.into()).await {
                            let _ = stream.receive().await;
                        }
                    })
                    .detach();
                    sleep(milliseconds(5)).await;
                }
                sleep(milliseconds(200_000)).await;
                // Some are aborted while they are queued.
                assert!((1..=CLIENTS).contains(&place.0.get()), "{} accepted", place.0.get());
                let failures = [libc::EMFILE, libc::ENFILE].map(AcceptError::from_errno);
                let paused: u64 = failures.iter().map(|error| cells.errors.value(*error)).sum();
                pauses.set(pauses.get() + paused);
                entrances.close(ListenerId(1)).await;
                assert_eq!(cells.accepting.value(), 0);
            }
        });
    });
    let said = lines.with("accepting pauses");
    assert!(pauses.get() > 2 * runs.get(), "{} pauses in {} runs", pauses.get(), runs.get());
    assert_eq!(said, runs.get() as usize, "once in each run");
}
