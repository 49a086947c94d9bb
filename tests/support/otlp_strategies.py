"""Strategies for OTLP messages as a serialiser may write them: every field, and some values that OTLP discourages."""

from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import (
    AnyValue,
    ArrayValue,
    EntityRef,
    InstrumentationScope,
    KeyValue,
    KeyValueList,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

uint32 = st.integers(0, 2**32 - 1)
uint64 = st.integers(0, 2**64 - 1)
text = st.text(max_size=12)
# A few names that repeat; some of them differ only in the last characters or in length.
names = st.sampled_from(("", "GET /", "GET /a", "GET /api/v1/orders/1", "GET /api/v1/orders/2")) | text


def ids(size: int) -> st.SearchStrategy[bytes]:
    """Return a strategy for ids, mostly of the right length."""
    return st.binary(min_size=size, max_size=size) | st.binary(max_size=20)


scalars = st.one_of(
    st.builds(AnyValue),
    st.builds(AnyValue, string_value=text),
    st.builds(AnyValue, bool_value=st.booleans()),
    st.builds(AnyValue, int_value=st.integers(-(2**63), 2**63 - 1)),
    st.builds(AnyValue, double_value=st.floats()),
    st.builds(AnyValue, bytes_value=st.binary(max_size=8)),
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.builds(lambda elements: AnyValue(array_value=ArrayValue(values=elements)), st.lists(inner, max_size=3))
        | st.builds(
            lambda pairs: AnyValue(kvlist_value=KeyValueList(values=pairs)),
            st.lists(st.builds(KeyValue, key=text, value=inner), max_size=3),
        )
    ),
    max_leaves=4,
)
attribute_names = (
    st.sampled_from(("service.name", "host.name", "site_id", "container.image.tags", "http.method")) | text
)
attributes = st.lists(st.builds(KeyValue, key=attribute_names, value=values), max_size=2)
# Names of nine and of eight letters, of events that are read and that are not; their attributes are those of exceptions
# and others, with texts and with values that no exception has.
event_names = st.sampled_from(("exception", "exception", "exceptioN", "exceptio", "message")) | text
exception_names = st.sampled_from(("exception.type", "exception.message", "exception.stacktrace", "exception.escaped"))
events = st.builds(
    Span.Event,
    time_unix_nano=uint64,
    name=event_names,
    attributes=st.lists(st.builds(KeyValue, key=exception_names | attribute_names, value=values), max_size=3),
    dropped_attributes_count=uint32,
)
links = st.builds(
    Span.Link,
    trace_id=ids(16),
    span_id=ids(8),
    trace_state=text,
    attributes=attributes,
    dropped_attributes_count=uint32,
    flags=uint32,
)
spans = st.builds(
    Span,
    trace_id=ids(16),
    span_id=ids(8),
    trace_state=text,
    parent_span_id=ids(8),
    flags=uint32,
    name=names,
    kind=st.integers(0, 6) | st.integers(-(2**31), 2**31 - 1),
    start_time_unix_nano=uint64,
    end_time_unix_nano=uint64,
    attributes=attributes,
    dropped_attributes_count=uint32,
    events=st.lists(events, max_size=2) | st.lists(events, min_size=8, max_size=10),
    dropped_events_count=uint32,
    links=st.lists(links, max_size=2),
    dropped_links_count=uint32,
    status=st.none() | st.builds(Status, message=text, code=st.integers(0, 3) | st.integers(-(2**31), 2**31 - 1)),
)
scopes = st.builds(
    ScopeSpans,
    scope=st.none()
    | st.builds(InstrumentationScope, name=text, version=text, attributes=attributes, dropped_attributes_count=uint32),
    spans=st.lists(spans, max_size=3),
    schema_url=text,
)
resources = st.builds(
    Resource,
    attributes=attributes,
    dropped_attributes_count=uint32,
    entity_refs=st.lists(st.builds(EntityRef, type=text, id_keys=st.lists(text, max_size=2)), max_size=1),
)
requests = st.builds(
    ExportTraceServiceRequest,
    resource_spans=st.lists(
        st.builds(
            ResourceSpans,
            resource=st.none() | resources,
            scope_spans=st.lists(scopes, max_size=2),
            schema_url=text,
        ),
        min_size=1,
        max_size=2,
    ),
)
