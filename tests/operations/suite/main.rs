//! Holds what operators meet to the code.
//!
//! Names are written down many times: a metric in the code, in a rule, in a panel and in a runbook; a setting in a
//! binary, in a ConfigMap and in a document. Nothing but these tests notices when one of them is changed alone. Each
//! lists everything that is wrong, with its file.
//!
//! | module | holds |
//! |---|---|
//! | [`checks::measured`] | metrics and labels of rules, panels, runbooks and documents to the metrics' catalogue |
//! | [`checks::rules`] | rule files to `promtool`, each alert to a test of it firing and one of it quiet |
//! | [`checks::coverage`] | jobs to the alerts that each must have, metrics to a rule or panel |
//! | [`checks::runbooks`] | alerts to runbooks and back |
//! | [`checks::commands`] | `kubectl` commands in documents to the objects of the overlays, our binaries' to what they take |
//! | [`checks::samples`] | samples of output to the schema's version |
//! | [`checks::variables`] | variables in manifests, and docs/CONFIGURATION.md, to the binaries' options |
//! | [`checks::endings`] | exit codes and time-outs of manifests to the code |
//! | [`checks::workers`] | Deployments of workers to their probes, and to the CronJob whose work they do |
//! | [`checks::flows`] | the table of network flows to the policies |
//! | [`checks::generated`] | generated files to what they are generated from |
//! | [`alerting`] | alerts to real servers and real runs |
//! | [`panels`] | panels to real servers and real runs, and their pictures to the dashboards |
//!
//! A new job is entered in [`read::programs`]; the checks then ask for the rest.

mod alerting;
mod checks;
mod findings;
mod panels;
mod read;
