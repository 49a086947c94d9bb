package org.apache.flink.autoscaler;

/** The interface as operator 1.16.1 calls it: {@code cleanup} takes the context, in 1.10.0 it took the key. */
public interface JobAutoScaler<K, C extends JobAutoScalerContext<K>> {
    void scale(C context) throws Exception;

    void cleanup(C context);
}
