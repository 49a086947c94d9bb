"""Finding of a detector, and the candidate of an insight that is made of it."""

from dataclasses import dataclass

from state_schemas.contracts.insight import Evidence, Insight, Kind, Severity, Window
from state_schemas.telemetry.resource import ServiceInfo
from udfs.detect.lifecycle import Course
from udfs.detect.service_window import ServiceKey
from udfs.insights.ids import insight_id
from udfs.insights.wording import title_of

__all__ = ["Finding"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The part of an insight that its detector decides. Fields without a comment are those of `Insight`."""

    kind: Kind
    subject: str
    start_ms: int
    end_ms: int
    severity: Severity
    confidence: float
    cold_start: bool = False
    # The title behind `SERVICE: `; it is cut to the limit of the contract.
    text: str
    measures: dict[str, float]
    evidence: Evidence
    info: ServiceInfo

    def candidate(self, key: ServiceKey, course: Course) -> Insight:
        """Return the insight, as revision 0."""
        namespace, service = key.name
        return Insight(
            insight_id=insight_id(self.kind, key.env, key.service, self.subject, self.start_ms),
            revision=0,
            status=course.status,
            kind=self.kind,
            env=key.env,
            site_id=self.info.site_id,
            namespace=namespace,
            service=service,
            subject=self.subject,
            window=Window(start_ms=self.start_ms, end_ms=self.end_ms),
            severity=self.severity,
            confidence=self.confidence,
            cold_start=self.cold_start,
            title=title_of(f"{service or key.env}: {self.text}"),
            reason=course.reason,
            measures=self.measures,
            evidence=self.evidence,
            container=self.info.container,
            image=self.info.image,
            version=self.info.version,
        )
