//! The way of spans to a collector: OTLP in protobuf over HTTP, in batches, by a thread of the library. The standard
//! variables are heeded: `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER`,
//! `OTEL_EXPORTER_OTLP_HEADERS` and those of `OTEL_BSP`.

use crate::{
    base::trace,
    config::NodeSettings,
    net::{http_client, tls::client::ClientTls},
};
use opentelemetry::{KeyValue, global};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use std::{io, time::Duration};

/// Time that the collector has for a batch, and the last ones have at a stop.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends spans while it lives.
pub(super) struct TraceExport(SdkTracerProvider);

impl TraceExport {
    /// Begins, if the settings name a collector.
    ///
    /// # Errors
    /// If there is no client for it: its address or a certificate cannot be used.
    pub(super) fn start(settings: &NodeSettings, name: &str) -> io::Result<Option<Self>> {
        let Some(endpoint) = &settings.otlp_endpoint else { return Ok(None) };
        let tls = ClientTls::from_files(settings.tls.node_authorities.as_deref(), None).map_err(io::Error::other)?;
        let client = http_client::blocking(&tls.or_system_authorities()).timeout(EXPORT_TIMEOUT).build();
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client.map_err(io::Error::other)?)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{endpoint}/v1/traces"))
            .with_timeout(EXPORT_TIMEOUT)
            .build()
            .map_err(io::Error::other)?;
        let mut resource = Resource::builder().with_attributes([
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", name.to_owned()),
        ]);
        if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name("memdb");
        }
        let provider =
            SdkTracerProvider::builder().with_resource(resource.build()).with_batch_exporter(exporter).build();
        global::set_text_map_propagator(TraceContextPropagator::new());
        global::set_tracer_provider(provider.clone());
        trace::turn_on();
        tracing::info!(endpoint, "spans are sent to a collector of OpenTelemetry; the fast path is not used");
        Ok(Some(Self(provider)))
    }
}

impl Drop for TraceExport {
    fn drop(&mut self) {
        if let Err(error) = self.0.shutdown_with_timeout(EXPORT_TIMEOUT) {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}
