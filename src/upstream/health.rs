//! Active health checks: when each endpoint is due to be asked, and what its answers come to.
//!
//! *In:* a cluster, and the results of probes. *Out:* which endpoints to probe, and when; changes go
//! to the cluster. *Owns:* the schedule. *Never:* probes, looks at a clock, or waits: whoever runs
//! the checks connects or sends a request as [`HealthCheck::probe`] says, within its time.
//!
//! ```text
//! loop {
//!     wait until next_due()
//!     while let Some(target) = due(now) { start a probe; when it ends: report(target.id(), ok, now) }
//! }
//! ```
//!
//! One shard runs the checks of a cluster, for all of them. An endpoint that has not been asked yet
//! counts as healthy, so that a proxy which starts does not refuse its first requests.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use fastrand::Rng;

use super::{
    cluster::Cluster,
    endpoint::{Endpoint, EndpointId},
};

/// How endpoints are asked whether they are well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked. Default: [`Probe::Connect`].
    pub probe: Probe,
    /// Time between two probes of an endpoint, give or take a tenth. Default: 5 s.
    pub interval: Duration,
    /// How long a probe may take. Default: 1 s.
    pub timeout: Duration,
    /// So many good answers in a row make an endpoint healthy. Default: 2.
    pub healthy: u32,
    /// So many bad ones in a row make it unhealthy. Default: 3.
    pub unhealthy: u32,
}

/// What an endpoint is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Probe {
    /// Whether it can be connected to.
    Connect,
    /// Whether it answers a GET of this path with a status from 200 to 299.
    Get {
        /// Path and query.
        path: Arc<str>,
        /// The `Host`; `None`: the endpoint as it was configured.
        host: Option<Arc<str>>,
    },
}

impl Default for HealthCheck {
    fn default() -> HealthCheck {
        HealthCheck {
            probe: Probe::Connect,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
            healthy: 2,
            unhealthy: 3,
        }
    }
}

impl HealthCheck {
    pub(super) fn check(&self) -> Result<(), &'static str> {
        if self.interval < Duration::from_millis(10) {
            return Err("the interval of health checks must be at least 10 ms");
        }
        if self.timeout.is_zero() || self.healthy == 0 || self.unhealthy == 0 {
            return Err("the timeout and the thresholds of health checks must not be 0");
        }
        match &self.probe {
            Probe::Get { path, .. } if !path.starts_with('/') => {
                Err("the path of a health check begins with /")
            }
            _ => Ok(()),
        }
    }

    /// Until the next probe; `random` is from 0 to 1.
    fn pause(&self, random: f64) -> Duration {
        self.interval.mul_f64(0.9 + random.clamp(0.0, 1.0) / 5.0)
    }
}

/// The answers of one endpoint.
#[derive(Clone, Debug)]
struct Answers {
    healthy: bool,
    /// How many in a row were against `healthy`.
    against: u32,
}

impl Answers {
    const NONE: Answers = Answers { healthy: true, against: 0 };

    /// Takes in an answer; what the endpoint is from now on, if that has changed.
    fn take(&mut self, well: bool, check: &HealthCheck) -> Option<bool> {
        if well == self.healthy {
            self.against = 0;
            return None;
        }
        self.against += 1;
        if self.against < if well { check.healthy } else { check.unhealthy } {
            return None;
        }
        *self = Answers { healthy: well, against: 0 };
        Some(well)
    }
}

struct Checked {
    endpoint: Arc<Endpoint>,
    answers: Answers,
    state: State,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Due(Instant),
    /// A probe is under way.
    Asked,
}

/// The checks of one cluster.
///
/// Where a reload takes the checks away, the cluster holds all its endpoints for healthy again, and
/// there is nothing due any more.
pub struct Checks {
    cluster: Arc<Cluster>,
    checked: Vec<Checked>,
    random: Rng,
}

impl Checks {
    /// The checks of `cluster`, whose settings say how. First probes are spread over an interval.
    pub fn new(cluster: Arc<Cluster>, now: Instant, seed: u64) -> Checks {
        let mut checks = Checks { cluster, checked: Vec::new(), random: Rng::with_seed(seed) };
        checks.follow(now);
        checks
    }

    /// An endpoint that is due to be asked, and counts as asked from now on; `None`: no further one.
    pub fn due(&mut self, now: Instant) -> Option<Arc<Endpoint>> {
        let is_due = |checked: &&mut Checked| matches!(checked.state, State::Due(at) if at <= now);
        let checked = self.checked.iter_mut().find(is_due)?;
        checked.state = State::Asked;
        Some(Arc::clone(&checked.endpoint))
    }

    /// When to ask [`due`](Checks::due) again; `None` while every endpoint is being asked, or there
    /// is none.
    pub fn next_due(&self) -> Option<Instant> {
        let due = |checked: &Checked| match checked.state {
            State::Due(at) => Some(at),
            State::Asked => None,
        };
        self.checked.iter().filter_map(due).min()
    }

    /// Takes in the result of a probe, and with it every change of the cluster's endpoints. A result
    /// for an endpoint that has gone is passed over. Says what the endpoint's health is from now on,
    /// if that has changed.
    pub fn report(&mut self, id: EndpointId, well: bool, now: Instant) -> Option<bool> {
        let snapshot = self.cluster.snapshot();
        let mut changed = None;
        if let Some(check) = snapshot.settings().health()
            && let Some(checked) = self.checked.iter_mut().find(|it| it.endpoint.id == id)
        {
            checked.state = State::Due(now + check.pause(self.random.f64()));
            changed = checked.answers.take(well, check);
            if let Some(healthy) = changed {
                self.cluster.set_healthy(id, healthy, now);
            }
        }
        self.follow(now);
        changed
    }

    /// Takes in changes of the cluster: endpoints that came are asked within an interval, those that
    /// went are not asked any more. Call it when the cluster may have changed and nothing was
    /// reported; calling it in vain costs a comparison.
    pub fn follow(&mut self, now: Instant) {
        let snapshot = self.cluster.snapshot();
        let Some(check) = snapshot.settings().health() else {
            self.checked.clear();
            return;
        };
        let same = |(one, other): (&Checked, &Arc<Endpoint>)| Arc::ptr_eq(&one.endpoint, other);
        let endpoints = snapshot.endpoints();
        if self.checked.len() == endpoints.len() && self.checked.iter().zip(endpoints).all(same) {
            return;
        }
        let mut before = std::mem::take(&mut self.checked);
        for endpoint in endpoints {
            let known =
                before.iter().position(|it| Arc::ptr_eq(&it.endpoint.tally, &endpoint.tally));
            let checked = match known.map(|at| before.swap_remove(at)) {
                Some(known) if known.endpoint.id == endpoint.id => {
                    Checked { endpoint: Arc::clone(endpoint), ..known }
                }
                known => Checked {
                    endpoint: Arc::clone(endpoint),
                    answers: known.map_or(Answers::NONE, |known| known.answers),
                    state: State::Due(now + check.interval.mul_f64(self.random.f64())),
                },
            };
            self.checked.push(checked);
        }
    }
}

impl fmt::Debug for Checks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.cluster.name();
        f.debug_struct("Checks").field("cluster", name).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::upstream::settings::ClusterSettings;

    const MS: Duration = Duration::from_millis(1);

    fn cluster(check: HealthCheck, endpoints: &[&str], now: Instant) -> Arc<Cluster> {
        Cluster::new(settings(Some(check), endpoints), now, 1)
    }

    fn settings(check: Option<HealthCheck>, endpoints: &[&str]) -> ClusterSettings {
        let builder = ClusterSettings::builder("checked").health(check);
        let add =
            |builder: crate::upstream::settings::ClusterBuilder, it: &&str| builder.endpoint(it);
        endpoints.iter().fold(builder, add).build().unwrap()
    }

    fn healthy(cluster: &Cluster, now: Instant) -> Vec<bool> {
        cluster.status(now).iter().map(|status| status.healthy).collect()
    }

    #[test]
    fn thresholds_count_answers_in_a_row() {
        let check = HealthCheck { healthy: 2, unhealthy: 3, ..HealthCheck::default() };
        let mut answers = Answers::NONE;
        let mut take = |text: &str| {
            let changes = text.chars().map(|c| answers.take(c == '+', &check));
            changes
                .map(|change| change.map_or('.', |it| if it { 'U' } else { 'D' }))
                .collect::<String>()
        };
        assert_eq!(take("--+--+---"), "........D");
        assert_eq!(take("-+-+-++-"), "......U.");
    }

    #[test]
    fn every_endpoint_is_asked_once_an_interval_give_or_take_a_tenth() {
        let start = Instant::now();
        let check = HealthCheck { interval: 1000 * MS, ..HealthCheck::default() };
        let cluster = cluster(check, &["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"], start);
        let mut checks = Checks::new(Arc::clone(&cluster), start, 7);
        let mut asked: HashMap<EndpointId, Vec<Duration>> = HashMap::new();
        while let Some(now) = checks.next_due().filter(|&now| now < start + 100_000 * MS) {
            let endpoint = checks.due(now).unwrap();
            asked.entry(endpoint.id()).or_default().push(now - start);
            assert_eq!(checks.report(endpoint.id(), true, now), None);
        }
        assert_eq!(asked.len(), 3);
        for times in asked.values() {
            assert!(times[0] <= 1000 * MS, "the first within an interval");
            let pauses = times.windows(2).map(|pair| pair[1] - pair[0]);
            assert!(pauses.clone().all(|pause| (900 * MS..=1100 * MS).contains(&pause)));
            assert!(pauses.clone().max().unwrap() - pauses.min().unwrap() > 100 * MS, "jitter");
        }
    }

    #[test]
    fn an_endpoint_is_not_asked_again_while_it_is_being_asked() {
        let start = Instant::now();
        let cluster = cluster(HealthCheck::default(), &["10.0.0.1:80"], start);
        let mut checks = Checks::new(cluster, start, 7);
        let much_later = start + 1_000_000 * MS;
        let endpoint = checks.due(much_later).unwrap();
        assert!(checks.due(much_later).is_none() && checks.next_due().is_none());
        checks.report(endpoint.id(), true, much_later);
        assert!(checks.next_due().is_some());
    }

    #[test]
    fn what_checks_find_reaches_the_cluster_and_a_reload_keeps_it() {
        let now = Instant::now();
        let check = HealthCheck { unhealthy: 1, ..HealthCheck::default() };
        let cluster = cluster(check.clone(), &["10.0.0.1:80", "10.0.0.2:80"], now);
        let mut checks = Checks::new(Arc::clone(&cluster), now, 7);
        let first = Arc::clone(&cluster.snapshot().endpoints()[0]);
        assert_eq!(checks.report(first.id(), false, now), Some(false));
        assert_eq!(healthy(&cluster, now), [false, true]);
        cluster.apply(settings(Some(check.clone()), &["10.0.0.3:80", "10.0.0.1:80"]), now);
        checks.follow(now);
        assert_eq!(healthy(&cluster, now), [true, false]);
        assert_eq!(checks.checked.len(), 2);
        assert!(!checks.checked[1].answers.healthy, "and the checks know it too");
        cluster.apply(settings(None, &["10.0.0.3:80", "10.0.0.1:80"]), now);
        assert_eq!(checks.report(first.id(), false, now), None, "a probe that was under way");
        assert_eq!(healthy(&cluster, now), [true, true]);
        assert_eq!(checks.next_due(), None);
    }
}
