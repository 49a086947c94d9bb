package org.apache.flink.autoscaler.validation;

import java.util.Optional;
import org.apache.flink.configuration.Configuration;

/** Accepts every option of the autoscaler: flink-autoscaler 1.16.1, which checks them, is not on the Maven repository. */
public class AutoscalerValidator {
    public Optional<String> validateAutoscalerOptions(Configuration options) {
        return Optional.empty();
    }
}
