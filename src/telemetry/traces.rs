//! Traces: the spans of each attempt at a task, for an OpenTelemetry collector, where they are asked for.
//!
//! ```text
//!   coordinator   task ───────────────────────────────────────┐ commit ─┐
//!   worker           fetch ─┐ wait ─┐ compute ──────┐ hand in ───────────┐
//! ```
//!
//! A lease carries its trace (W3C Trace Context), so that the spans of both programs join. Spans are handed over whole
//! when they end, and sent in bundles by a thread of their own. Whatever becomes of them, a sweep never waits: when the
//! collector cannot keep up or cannot be reached, they are dropped.

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchSpanProcessor, IdGenerator, RandomIdGenerator, SpanData, SpanEvents, SpanExporter, SpanLinks, SpanProcessor,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

/// What is left when a program ends gets this long.
const FAREWELL: Duration = Duration::from_secs(2);
/// A collector that takes longer is as good as gone.
const PATIENCE: Duration = Duration::from_secs(5);
/// Where all programs that speak OpenTelemetry look for their collector.
const VARIABLE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// Where traces go.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Traces {
    /// Send traces to the OpenTelemetry collector at this address, by gRPC (OTLP), such as http://127.0.0.1:4317
    /// [env: OTEL_EXPORTER_OTLP_ENDPOINT]
    #[arg(long = "otlp", value_name = "URL")]
    pub collector: Option<String>,
}

#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("--otlp {url:?} is not a collector's address: {reason}")]
#[diagnostic(help(
    "write http://HOST:PORT of a collector's gRPC receiver, usually port 4317; one beside the program can send on over TLS"
))]
pub struct TracesError {
    url: String,
    reason: String,
}

/// Takes spans. Cheap to clone; one that is off does nothing.
#[derive(Debug, Clone, Default)]
pub struct Tracer(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
}

/// A span that has begun.
#[derive(Debug, Clone)]
pub struct Span {
    context: SpanContext,
    parent: Option<SpanContext>,
    name: &'static str,
    started: SystemTime,
    attributes: Vec<KeyValue>,
}

/// How something ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended<'a> {
    Well,
    /// With the reason, for people.
    Badly(&'a str),
}

impl Traces {
    /// The way to the collector, if one was named. To be called inside the runtime.
    ///
    /// An address in the environment may be meant for other programs: one that is of no use here is only a warning.
    ///
    /// `service` is the program, `instance` tells its processes apart.
    ///
    /// # Errors
    /// When the address is none that traces can be sent to.
    pub fn open(&self, service: &'static str, instance: &str) -> Result<Tracer, TracesError> {
        let (url, asked) = match (&self.collector, std::env::var(VARIABLE)) {
            (Some(url), _) => (url.clone(), true),
            (None, Ok(url)) if !url.is_empty() => (url, false),
            (None, _) => return Ok(Tracer::default()),
        };
        match Tracer::to(&url, service, instance) {
            Err(error) if !asked => {
                tracing::warn!(collector = url, variable = VARIABLE, reason = error.reason, "no traces are sent");
                Ok(Tracer::default())
            }
            opened => opened,
        }
    }
}

impl Tracer {
    fn to(url: &str, service: &'static str, instance: &str) -> Result<Tracer, TracesError> {
        let fault = |reason: String| TracesError { url: url.into(), reason };
        if !url.starts_with("http://") {
            return Err(fault("it does not begin with http://".into()));
        }
        let exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic().with_endpoint(url);
        let exporter = exporter.with_timeout(PATIENCE).build().map_err(|error| fault(error.to_string()))?;
        let exporter = Unheard { exporter, url: url.to_string(), said: AtomicBool::new(false) };
        let mut processor = BatchSpanProcessor::builder(exporter).build();
        let about = [
            KeyValue::new("service.instance.id", instance.to_string()),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        ];
        processor.set_resource(&Resource::builder().with_service_name(service).with_attributes(about).build());
        tracing::info!(collector = url, "traces are sent");
        let scope = InstrumentationScope::builder("epsweep").build();
        Ok(Tracer(Some(Arc::new(Inner { processor, scope }))))
    }

    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// A span that begins now, below `parent`, or at the root of a trace of its own. `None` while traces are off.
    pub fn begin(&self, name: &'static str, parent: Option<&SpanContext>) -> Option<Span> {
        self.0.as_ref()?;
        let ids = RandomIdGenerator::default();
        let trace = parent.map_or_else(|| ids.new_trace_id(), SpanContext::trace_id);
        let context = SpanContext::new(trace, ids.new_span_id(), TraceFlags::SAMPLED, false, TraceState::default());
        Some(Span { context, parent: parent.cloned(), name, started: SystemTime::now(), attributes: Vec::new() })
    }

    /// Ends a span now.
    pub fn end(&self, span: Option<Span>, ended: Ended) {
        let (Some(Inner { processor, scope }), Some(span)) = (self.0.as_deref(), span) else { return };
        let (parent_span_id, remote) =
            span.parent.map_or((SpanId::INVALID, false), |parent| (parent.span_id(), parent.is_remote()));
        processor.on_end(SpanData {
            span_context: span.context,
            parent_span_id,
            parent_span_is_remote: remote,
            span_kind: SpanKind::Internal,
            name: span.name.into(),
            start_time: span.started,
            end_time: SystemTime::now(),
            attributes: span.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: match ended {
                Ended::Well => Status::Ok,
                Ended::Badly(why) => Status::error(why.to_string()),
            },
            instrumentation_scope: scope.clone(),
        });
    }

    /// Sends what is left, for a moment: the last call before the program ends.
    pub async fn close(self) {
        if let Some(inner) = self.0 {
            let sent = tokio::task::spawn_blocking(move || inner.processor.shutdown_with_timeout(FAREWELL));
            let _ = tokio::time::timeout(FAREWELL, sent).await; // whoever does not hear it has been named already
        }
    }
}

impl Span {
    /// Adds what it is about; see docs/traces.md for the names.
    #[must_use]
    pub fn about(mut self, name: &'static str, value: impl Into<opentelemetry::Value>) -> Span {
        self.attributes.push(KeyValue::new(name, value));
        self
    }

    pub fn context(&self) -> &SpanContext {
        &self.context
    }

    /// This span as the parent of spans in another process: `00-TRACE-SPAN-01`.
    pub fn traceparent(&self) -> String {
        format!("00-{}-{}-01", self.context.trace_id(), self.context.span_id())
    }
}

/// What another process wrote by [`Span::traceparent`]; `None` for anything else.
pub fn parent(text: &str) -> Option<SpanContext> {
    let [version, trace, span, flags] = text.split('-').collect::<Vec<_>>().try_into().ok()?;
    let hexadecimal = |part: &str, length| part.len() == length && part.bytes().all(|c| c.is_ascii_hexdigit());
    if version != "00" || !hexadecimal(trace, 32) || !hexadecimal(span, 16) || !hexadecimal(flags, 2) {
        return None;
    }
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    let context = SpanContext::new(trace, span, TraceFlags::SAMPLED, true, TraceState::default());
    context.is_valid().then_some(context)
}

/// An exporter that complains once.
#[derive(Debug)]
struct Unheard {
    exporter: opentelemetry_otlp::SpanExporter,
    url: String,
    said: AtomicBool,
}

impl SpanExporter for Unheard {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let result = self.exporter.export(batch).await;
        if let Err(error) = &result
            && !self.said.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(collector = self.url, %error, "traces cannot be sent: they are dropped until they can");
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(url: &str) -> Result<Tracer, TracesError> {
        Traces { collector: Some(url.into()) }.open("epsweep-test", "here")
    }

    #[test]
    fn without_a_collector_there_is_no_span() {
        let tracer = Traces::default().open("epsweep-test", "here").unwrap();
        assert!(!tracer.is_on() && tracer.begin("task", None).is_none());
        tracer.end(None, Ended::Well);
    }

    #[tokio::test]
    async fn spans_carry_their_trace_across_processes() {
        let tracer = to("http://127.0.0.1:9").unwrap();
        let root = tracer.begin("task", None).unwrap();
        let sent = root.traceparent();
        let here = parent(&sent).unwrap();
        assert_eq!((here.trace_id(), here.span_id()), (root.context().trace_id(), root.context().span_id()));
        let child = tracer.begin("compute", Some(&here)).unwrap();
        assert_eq!(child.context().trace_id(), here.trace_id());
        assert_ne!(child.context().span_id(), here.span_id());
        let zeros = format!("00-{:032}-{:016}-01", 0, 0);
        for wrong in ["", "00", &sent[1..], &sent.replace("00-", "01-"), &sent.replace('-', "_"), &zeros] {
            assert!(parent(wrong).is_none(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn addresses_that_are_none_are_refused_with_a_remedy() {
        for wrong in ["", "collector:4317", "https://collector:4317", "http://", "http://a b"] {
            let refused = format!("{:?}", miette::Report::new(to(wrong).unwrap_err()));
            assert!(refused.contains(wrong) && refused.contains("4317"), "{refused}");
        }
    }

    #[tokio::test]
    async fn a_collector_that_is_not_there_holds_nobody_up() {
        let tracer = to("http://127.0.0.1:9").unwrap();
        for _ in 0..5_000 {
            tracer.end(tracer.begin("task", None), Ended::Badly("nobody hears it"));
        }
        let started = std::time::Instant::now();
        tracer.close().await;
        assert!(started.elapsed() < FAREWELL + Duration::from_secs(2), "{:?}", started.elapsed());
    }
}
