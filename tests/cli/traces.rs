//! Traces at a collector: the spans of both programs join, and nobody waits for one that is not there.

use crate::harness::{Folder, SMALL};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// A span with what is asked of it here.
#[derive(Debug, Clone)]
struct Seen {
    service: String,
    name: String,
    trace: Vec<u8>,
    id: Vec<u8>,
    parent: Vec<u8>,
    /// Nanoseconds.
    times: (u64, u64),
    attributes: BTreeMap<String, String>,
}

/// Takes whatever comes.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Seen>>>);

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    let pair = |pair: &KeyValue| Some((pair.key.clone(), text(pair.value.as_ref()?.value.as_ref()?)));
    attributes.iter().filter_map(pair).collect()
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for resource in request.into_inner().resource_spans {
            let about = texts(&resource.resource.unwrap_or_default().attributes);
            for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                self.0.lock().unwrap().push(Seen {
                    service: about["service.name"].clone(),
                    name: span.name,
                    trace: span.trace_id,
                    id: span.span_id,
                    parent: span.parent_span_id,
                    times: (span.start_time_unix_nano, span.end_time_unix_nano),
                    attributes: texts(&span.attributes),
                });
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Listens on a free port; returns its URL.
    async fn listen(&self) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(self.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        url
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_tasks_spans_of_both_programs_share_a_trace() {
    let collector = Collector::default();
    let url = collector.listen().await;
    let folder = Folder::with(SMALL);
    let done = tokio::task::spawn_blocking(move || {
        folder.epsweep(&["run", "sweep.yaml", "--workers", "2", "--out", "run", "--otlp", &url]).expect(0);
        folder.costs("run/report").len()
    });
    let answered = done.await.unwrap();
    let spans = collector.0.lock().unwrap().clone();
    let of = |service: &str, name: &str| -> Vec<&Seen> {
        spans.iter().filter(|span| span.service == service && span.name == name).collect()
    };
    let tasks = of("epsweep", "task");
    // Stragglers may have been copied; each of the sweep's tasks was answered once.
    let accepted = tasks.iter().filter(|span| span.attributes["epsweep.outcome"] == "answered");
    let accepted: BTreeSet<&str> = accepted.map(|span| span.attributes["epsweep.task"].as_str()).collect();
    assert!(accepted.len() >= 12, "{} tasks, {answered} rows of costs", accepted.len());
    assert!(tasks.iter().all(|span| span.parent.is_empty() || span.parent.iter().all(|byte| *byte == 0)));
    let traces: BTreeSet<&[u8]> = tasks.iter().map(|span| &span.trace[..]).collect();
    assert_eq!(traces.len(), tasks.len(), "each attempt is a trace of its own");

    let below = [("epsweep", "commit")]
        .into_iter()
        .chain(["fetch", "wait", "compute", "hand in"].map(|name| ("epsweep-worker", name)));
    for (service, name) in below {
        let found = of(service, name);
        for task in tasks.iter().filter(|task| task.attributes["epsweep.outcome"] == "answered") {
            let own: Vec<_> = found.iter().filter(|span| span.trace == task.trace).collect();
            assert_eq!(own.len(), 1, "{name} of {task:?}");
            assert_eq!(own[0].parent, task.id, "{name} lies below its task");
            assert!(own[0].times.0 <= own[0].times.1 && own[0].times.0 >= task.times.0, "{name}: {own:?}, {task:?}");
            if service == "epsweep-worker" {
                for key in ["sweep", "trial", "task", "kind", "attempt", "worker"].map(|key| format!("epsweep.{key}")) {
                    assert_eq!(own[0].attributes[&key], task.attributes[&key], "{key} of {name}");
                }
            }
        }
    }
    let kinds: BTreeSet<&str> = tasks.iter().map(|span| span.attributes["epsweep.kind"].as_str()).collect();
    assert_eq!(kinds, BTreeSet::from(["evaluate", "train"]));
}

#[test]
fn a_collector_that_is_not_there_changes_nothing_and_is_named_once() {
    let folder = Folder::with(SMALL);
    folder.epsweep(&["run", "sweep.yaml", "--workers", "1", "--out", "plain"]).expect(0);
    let args = ["run", "sweep.yaml", "--workers", "1", "--out", "traced", "--otlp", "http://127.0.0.1:9"];
    folder.epsweep(&args).expect(0);
    assert_eq!(folder.results("plain/report"), folder.results("traced/report"));
    let log = folder.read("traced/logs/coordinator.jsonl");
    assert_eq!(log.matches("traces cannot be sent").count(), 1, "{log}");
    // Meant for other programs.
    let folder = folder.env("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector:4318");
    folder.epsweep(&["run", "sweep.yaml", "--workers", "1", "--out", "plain"]).expect(0);
    let log = folder.read("plain/logs/coordinator.jsonl");
    assert_eq!(log.matches("no traces are sent").count(), 1, "{log}");
    folder.epsweep(&["run", "sweep.yaml", "--otlp", "collector:4317"]).expect(2).says(&["collector:4317", "http://"]);
    folder.worker("127.0.0.1:9", "w", &["--otlp", "ftp://x"]).wait().expect(2).says(&["ftp://x"]);
}
