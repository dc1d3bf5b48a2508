package sunseo.peers;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;

/**
 * Loads for Kafka with the method of `sunseo bench`: one command a line on standard input, one JSON object a line as its answer. The
 * process stays for all of them, so that the client's code is compiled when it counts.
 */
public final class Main {
  private Main() {}

  public static void main(String[] words) throws Exception {
    BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String line = lines.readLine(); line != null; line = lines.readLine()) {
      String answer;
      try {
        answer = run(line.trim().split(" +"));
      } catch (Exception error) {
        Throwable cause = error.getCause() == null ? error : error.getCause();
        answer = "{\"error\": \"" + cause.toString().replaceAll("[\\\\\"\\p{Cntrl}]", " ") + "\"}";
      }
      System.out.println(answer);
      System.out.flush();
    }
  }

  private static String run(String[] words) throws Exception {
    Arguments arguments = new Arguments(words, 1);
    return switch (words[0]) {
      case "create" -> Topics.create(arguments);
      case "delete" -> Topics.delete(arguments);
      case "produce" -> Produce.run(arguments);
      case "consume" -> Consume.run(arguments);
      case "e2e" -> EndToEnd.run(arguments);
      case "ready" -> Ready.run(arguments);
      default -> throw new IllegalArgumentException(words[0] + " is no command");
    };
  }
}
