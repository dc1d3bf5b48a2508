package sunseo.peers;

import java.util.HashMap;
import java.util.Map;
import java.util.Properties;

/** One line of `name=value` words. Names with a dot are properties of Kafka's own clients. */
final class Arguments {
  private final Map<String, String> values = new HashMap<>();

  Arguments(String[] words, int from) {
    for (int at = from; at < words.length; at++) {
      String[] pair = words[at].split("=", 2);
      if (pair.length != 2) {
        throw new IllegalArgumentException(words[at] + ": use name=value");
      }
      values.put(pair[0], pair[1]);
    }
  }

  String text(String name) {
    String value = values.get(name);
    if (value == null) {
      throw new IllegalArgumentException(name + " is missing");
    }
    return value;
  }

  int number(String name, int otherwise) {
    return Integer.parseInt(values.getOrDefault(name, Integer.toString(otherwise)));
  }

  double real(String name, double otherwise) {
    return Double.parseDouble(values.getOrDefault(name, Double.toString(otherwise)));
  }

  boolean has(String name) {
    return values.containsKey(name);
  }

  /** Kafka's own properties; everything else keeps Kafka's default. */
  Properties client() {
    Properties properties = new Properties();
    values.forEach((name, value) -> {
      if (name.contains(".")) {
        properties.put(name, value);
      }
    });
    properties.put("key.serializer", "org.apache.kafka.common.serialization.ByteArraySerializer");
    properties.put("value.serializer", "org.apache.kafka.common.serialization.ByteArraySerializer");
    properties.put("key.deserializer", "org.apache.kafka.common.serialization.ByteArrayDeserializer");
    properties.put("value.deserializer", "org.apache.kafka.common.serialization.ByteArrayDeserializer");
    return properties;
  }
}
