package io.javaoperatorsdk.operator.processing.event.source;

/** What happened to a resource: operator-framework 5.2.3 has it in another package than 5.5.0, which operator 1.16.1 names. */
public enum ResourceAction {
    ADDED,
    UPDATED,
    DELETED
}
