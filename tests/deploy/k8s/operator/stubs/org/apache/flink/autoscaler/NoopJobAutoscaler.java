package org.apache.flink.autoscaler;

/** Scales nothing. */
public class NoopJobAutoscaler<K, C extends JobAutoScalerContext<K>> implements JobAutoScaler<K, C> {
    @Override
    public void scale(C context) {}

    @Override
    public void cleanup(C context) {}
}
