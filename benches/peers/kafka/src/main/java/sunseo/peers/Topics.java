package sunseo.peers;

import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.common.TopicPartition;

/** Topics and where they end. */
final class Topics {
  private Topics() {}

  static String create(Arguments arguments) throws Exception {
    Map<String, String> config = new HashMap<>();
    if (arguments.has("flush-messages")) {
      config.put("flush.messages", arguments.text("flush-messages"));
    }
    int count = arguments.number("partitions", 16);
    try (Admin admin = Admin.create(arguments.client())) {
      NewTopic topic = new NewTopic(arguments.text("topic"), count, (short) 1).configs(config);
      admin.createTopics(List.of(topic)).all().get();
      while (count(admin, arguments.text("topic")) < count) {
        Thread.sleep(10);
      }
    }
    return "{}";
  }

  private static long count(Admin admin, String topic) throws Exception {
    try {
      return admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().stream()
          .filter(partition -> partition.leader() != null).count();
    } catch (java.util.concurrent.ExecutionException error) {
      // the broker has not heard of it yet
      return 0;
    }
  }

  static String delete(Arguments arguments) throws Exception {
    try (Admin admin = Admin.create(arguments.client())) {
      admin.deleteTopics(List.of(arguments.text("topic"))).all().get();
    }
    return "{}";
  }

  static List<TopicPartition> partitions(Admin admin, String topic) throws Exception {
    int count = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size();
    List<TopicPartition> partitions = new ArrayList<>();
    for (int partition = 0; partition < count; partition++) {
      partitions.add(new TopicPartition(topic, partition));
    }
    return partitions;
  }

  static Map<TopicPartition, Long> offsets(Admin admin, Collection<TopicPartition> partitions, OffsetSpec at) throws Exception {
    Map<TopicPartition, OffsetSpec> asked = new HashMap<>();
    partitions.forEach(partition -> asked.put(partition, at));
    Map<TopicPartition, Long> offsets = new HashMap<>();
    admin.listOffsets(asked).all().get().forEach((partition, found) -> offsets.put(partition, found.offset()));
    return offsets;
  }

  /** Records that are acknowledged and can be read. */
  static long records(Admin admin, Collection<TopicPartition> partitions) throws Exception {
    return offsets(admin, partitions, OffsetSpec.latest()).values().stream().mapToLong(Long::longValue).sum();
  }
}
