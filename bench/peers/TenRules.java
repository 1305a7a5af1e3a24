import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.time.Duration;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicLong;
import java.util.regex.Pattern;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Predicate;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.state.Stores;

/**
 * The ten rules of bench/peers/rules.py as a Kafka Streams topology: brokers, topic of events, topic of alerts, events,
 * folder for state, processing guarantee.
 *
 * <p>It is kind to Kafka Streams: events have their service as key, so nothing is partitioned again, each is parsed
 * once, and counts stay in memory.
 */
public final class TenRules {
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final Duration WINDOW = Duration.ofMinutes(1);
  private static final long THRESHOLD = 1000;
  private static final Pattern REFUSED = Pattern.compile("(?i)refused|unreachable");

  /** An event as it stands in JSON. */
  @JsonIgnoreProperties(ignoreUnknown = true)
  public static final class Event {
    public String service = "";
    public String level = "";
    public String message = "";
    public Integer statusCode;
    public Double responseTime;
    public Map<String, String> attributes = Map.of();
  }

  public static void main(String[] arguments) throws Exception {
    Properties config = new Properties();
    config.put(StreamsConfig.APPLICATION_ID_CONFIG, arguments[1] + "-streams");
    config.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0]);
    config.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 2);
    config.put(StreamsConfig.STATE_DIR_CONFIG, arguments[4]);
    config.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, arguments[5]);
    config.put(StreamsConfig.consumerPrefix("auto.offset.reset"), "earliest");
    config.put(StreamsConfig.consumerPrefix("max.poll.records"), 5000);
    config.put(StreamsConfig.producerPrefix("compression.type"), "lz4");
    StreamsBuilder builder = new StreamsBuilder();
    build(builder, arguments[1], arguments[2], Long.parseLong(arguments[3]));
    KafkaStreams streams = new KafkaStreams(builder.build(), config);
    Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(10))));
    streams.start();
  }

  private static void build(StreamsBuilder builder, String topic, String alerts, long events) {
    AtomicLong seen = new AtomicLong();
    KStream<String, Event> parsed =
        builder.stream(topic, Consumed.with(Serdes.String(), Serdes.ByteArray()))
            .mapValues(TenRules::parse)
            .peek((service, event) -> count(seen.incrementAndGet(), events));
    for (Map.Entry<String, Predicate<String, Event>> rule : rules().entrySet()) {
      parsed
          .filter(rule.getValue())
          .mapValues(event -> "")
          .groupByKey(Grouped.with(Serdes.String(), Serdes.String()))
          .windowedBy(TimeWindows.ofSizeAndGrace(WINDOW, Duration.ofSeconds(30)))
          .count(
              Materialized.<String, Long>as(
                      Stores.inMemoryWindowStore(
                          rule.getKey(), Duration.ofMinutes(2), WINDOW, false))
                  .withKeySerde(Serdes.String())
                  .withValueSerde(Serdes.Long()))
          .toStream()
          .filter((window, count) -> count > THRESHOLD)
          .map((window, count) -> new org.apache.kafka.streams.KeyValue<>(rule.getKey(), window + " " + count))
          .to(alerts, Produced.with(Serdes.String(), Serdes.String()));
    }
  }

  private static Map<String, Predicate<String, Event>> rules() {
    Map<String, Predicate<String, Event>> rules = new LinkedHashMap<>();
    rules.put("all", (service, event) -> true);
    rules.put("errors", (service, event) -> event.level.equals("ERROR"));
    rules.put("severe", (service, event) -> event.level.equals("ERROR") || event.level.equals("FATAL"));
    rules.put("slow", (service, event) -> event.responseTime != null && event.responseTime > 1000.0);
    rules.put("failed", (service, event) -> event.statusCode != null && event.statusCode >= 500);
    rules.put("timeouts", (service, event) -> event.message.contains("timeout"));
    rules.put("deletes", (service, event) -> event.message.contains("DELETE"));
    rules.put("refused", (service, event) -> REFUSED.matcher(event.message).find());
    rules.put("one-service", (service, event) -> event.service.equals("openstack") && event.level.equals("WARN"));
    rules.put("one-region", (service, event) -> "eu-1".equals(event.attributes.get("region")));
    return rules;
  }

  private static Event parse(byte[] value) {
    try {
      return JSON.readValue(value, Event.class);
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }

  private static void count(long seen, long events) {
    if (seen == 1) {
      System.out.println("first 1");
    }
    if (seen == events) {
      System.out.println("done");
    }
  }

  private TenRules() {}
}
