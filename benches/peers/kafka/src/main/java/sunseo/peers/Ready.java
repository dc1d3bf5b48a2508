package sunseo.peers;

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.Future;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;

/**
 * The moment at which every partition has taken a record and given one, as `sunseo bench ready`. Started before the server, and it tries
 * quickly: the waits of the client must not be what is measured.
 */
final class Ready {
  private Ready() {}

  static String run(Arguments arguments) throws Exception {
    String topic = arguments.text("topic");
    int count = arguments.number("partitions", 16);
    Properties properties = arguments.client();
    properties.put("reconnect.backoff.ms", "5");
    properties.put("reconnect.backoff.max.ms", "5");
    properties.put("retry.backoff.ms", "5");
    properties.put("retry.backoff.max.ms", "20");
    properties.put("linger.ms", "0");
    properties.put("max.block.ms", "600000");
    properties.put("delivery.timeout.ms", "600000");
    properties.put("default.api.timeout.ms", "600000");
    properties.put("max.partition.fetch.bytes", "65536");
    properties.put("auto.offset.reset", "earliest");
    long start = System.nanoTime();
    List<TopicPartition> partitions = new ArrayList<>();
    for (int partition = 0; partition < count; partition++) {
      partitions.add(new TopicPartition(topic, partition));
    }
    try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(properties);
        KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(properties)) {
      List<Future<RecordMetadata>> acks = new ArrayList<>();
      for (TopicPartition partition : partitions) {
        byte[] word = "ready".getBytes(java.nio.charset.StandardCharsets.US_ASCII);
        acks.add(producer.send(new ProducerRecord<>(topic, partition.partition(), word, word)));
      }
      for (Future<RecordMetadata> ack : acks) {
        ack.get();
      }
      consumer.assign(partitions);
      consumer.seekToBeginning(partitions);
      Set<TopicPartition> seen = new HashSet<>();
      while (seen.size() < count) {
        seen.addAll(consumer.poll(Duration.ofSeconds(1)).partitions());
      }
    }
    long now = System.currentTimeMillis();
    return "{\"ready_unix_ms\": " + now + ", \"duration_s\": " + (System.nanoTime() - start) / 1e9 + "}";
  }
}
