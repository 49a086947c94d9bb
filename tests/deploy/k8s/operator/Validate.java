import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.MappingIterator;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.dataformat.yaml.YAMLFactory;
import java.io.File;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.kubernetes.operator.api.AbstractFlinkResource;
import org.apache.flink.kubernetes.operator.api.FlinkDeployment;
import org.apache.flink.kubernetes.operator.api.FlinkSessionJob;
import org.apache.flink.kubernetes.operator.api.FlinkStateSnapshot;
import org.apache.flink.kubernetes.operator.config.FlinkConfigManager;
import org.apache.flink.kubernetes.operator.validation.DefaultValidator;

/**
 * The operator's own validation of manifests, without a cluster.
 *
 * <p>Arguments: YAML files of any number of documents. Prints a line for each resource of Flink, with tabs between file,
 * kind/name and the reason why the operator refuses it, or nothing. A session job and a snapshot are checked with the FlinkDeployment
 * of the same file that they name.
 */
public class Validate {
    private static final ObjectMapper YAML =
            new ObjectMapper(new YAMLFactory()).enable(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES);
    private static final DefaultValidator VALIDATOR =
            new DefaultValidator(new FlinkConfigManager(new Configuration(), namespaces -> {}, true));

    public static void main(String[] files) throws Exception {
        for (String file : files) {
            List<JsonNode> documents = new ArrayList<>();
            try (MappingIterator<JsonNode> found = YAML.readerFor(JsonNode.class).readValues(new File(file))) {
                found.forEachRemaining(documents::add);
            }
            Map<String, FlinkDeployment> deployments = new HashMap<>();
            for (String kind : List.of("FlinkDeployment", "FlinkSessionJob", "FlinkStateSnapshot")) {
                for (JsonNode document : documents) {
                    if (kind.equals(document.path("kind").asText())) {
                        String name = document.path("metadata").path("name").asText();
                        System.out.println(file + "\t" + kind + "/" + name + "\t" + fault(kind, document, deployments).replace('\n', ' '));
                    }
                }
            }
        }
        System.exit(0); // FlinkConfigManager keeps a thread
    }

    private static String fault(String kind, JsonNode document, Map<String, FlinkDeployment> deployments) {
        try {
            switch (kind) {
                case "FlinkDeployment":
                    FlinkDeployment deployment = YAML.treeToValue(document, FlinkDeployment.class);
                    deployments.put(deployment.getMetadata().getName(), deployment);
                    return VALIDATOR.validateDeployment(deployment).orElse("");
                case "FlinkSessionJob":
                    FlinkSessionJob job = YAML.treeToValue(document, FlinkSessionJob.class);
                    String session = job.getSpec().getDeploymentName();
                    return VALIDATOR.validateSessionJob(job, Optional.ofNullable(deployments.get(session))).orElse("");
                default:
                    FlinkStateSnapshot snapshot = YAML.treeToValue(document, FlinkStateSnapshot.class);
                    AbstractFlinkResource<?, ?> target = deployments.get(snapshot.getSpec().getJobReference().getName());
                    return VALIDATOR.validateStateSnapshot(snapshot, Optional.ofNullable(target)).orElse("");
            }
        } catch (JsonProcessingException error) {
            return error.getOriginalMessage();
        }
    }
}
