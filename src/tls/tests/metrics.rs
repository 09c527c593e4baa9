//! What is to be seen of credentials from outside.

use std::{collections::BTreeMap, time::Duration};

use super::authority::Authority;
use crate::{
    telemetry::{HistogramSnapshot, Labels, Metric, Sink, Source as _},
    tls::{
        ServerCredentials,
        credentials::{OwnCertificate, ServerSettings, Watch},
    },
};

/// Series by name and label value.
#[derive(Default)]
struct Series(BTreeMap<String, f64>);

impl Series {
    fn of(watch: &Watch) -> Series {
        let mut series = Series::default();
        watch.metrics().collect(&mut series);
        series
    }

    fn add(&mut self, metric: &Metric, labels: &Labels<'_>, value: f64) {
        let name = metric.name.strip_prefix("evenkeel_tls_").unwrap();
        let before = self.0.insert(format!("{name} {}", labels[0].1), value);
        assert_eq!(before, None, "{name} {labels:?} twice");
    }

    fn reloads(&self) -> [f64; 2] {
        ["accepted", "refused"].map(|result| self.0[&format!("reloads_total {result}")])
    }

    fn expiry(&self, name: &str) -> Option<f64> {
        self.0.get(&format!("certificate_expiration_timestamp_seconds {name}")).copied()
    }
}

impl Sink for Series {
    fn counter(&mut self, metric: &Metric, labels: &Labels<'_>, value: u64) {
        self.add(metric, labels, value as f64);
    }

    fn gauge(&mut self, metric: &Metric, labels: &Labels<'_>, value: f64) {
        self.add(metric, labels, value);
    }

    fn seconds(&mut self, metric: &Metric, _: &Labels<'_>, _: f64) {
        panic!("{metric:?}");
    }

    fn histogram(&mut self, metric: &Metric, _: &Labels<'_>, _: &HistogramSnapshot) {
        panic!("{metric:?}");
    }
}

#[test]
fn expiry_follows_what_is_in_use_and_reloads_only_grow() {
    let authority = Authority::new("authority");
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let write = |year: i32| {
        let issued = authority.issue(&["server.example"], |it| {
            it.not_after = rcgen::date_time_ymd(year, 1, 1);
        });
        std::fs::write(path("own.pem"), &issued.certificate).unwrap();
        std::fs::write(path("own.key"), &issued.key).unwrap();
    };
    let load = || {
        let own =
            OwnCertificate { certificate: path("own.pem").into(), key: path("own.key").into() };
        ServerCredentials::load("web", ServerSettings::new(own)).unwrap()
    };
    // It never looks by itself.
    let watch = Watch::start(Duration::from_secs(3600)).unwrap();
    assert_eq!(Series::of(&watch).reloads(), [0.0, 0.0]);

    write(2100);
    let first = load();
    watch.add(&first);
    assert_eq!(Series::of(&watch).expiry("web"), Some(4_102_444_800.0));
    write(2200);
    first.reload().unwrap();
    std::fs::write(path("own.key"), "rubbish").unwrap();
    first.reload().unwrap_err();
    let series = Series::of(&watch);
    assert_eq!((series.expiry("web"), series.reloads()), (Some(7_258_118_400.0), [1.0, 1.0]));

    // Of two with the same name, the one that came last is shown; the reloads of both count.
    write(2150);
    let second = load();
    watch.add(&second);
    first.reload().unwrap();
    let series = Series::of(&watch);
    assert_eq!((series.expiry("web"), series.reloads()), (Some(5_680_281_600.0), [2.0, 1.0]));

    // What is gone has no expiry, and its reloads were.
    drop((first, second));
    let series = Series::of(&watch);
    assert_eq!((series.expiry("web"), series.reloads()), (None, [2.0, 1.0]));
}
