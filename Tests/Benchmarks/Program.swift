import CBenchmarks
import QEMUHarness

/// `switchover-bench [--rounds N] [shared] [disk] [disk-far] [codec] [reaction]`: figures side by side, no verdict.
@main
enum Program {
  static func main() throws {
    bench_line_buffering()
    var words = Array(CommandLine.arguments.dropFirst())
    var rounds = 20
    if let index = words.firstIndex(of: "--rounds"), index + 1 < words.count {
      rounds = max(Int(words[index + 1]) ?? 20, 1)
      words.removeSubrange(index...(index + 1))
    }
    func wants(_ part: String) -> Bool { words.isEmpty || words.contains(part) }
    if wants("codec") { CodecBenchmark().run() }
    if wants("reaction") { ReactionBenchmark().run() }
    for version in QEMUVersion.allCases {
      if wants("shared") {
        try SwitchoverBenchmark(
          version: version, rounds: rounds,
          ways: [
            .floor, .none, .returnPathFloor, .beforeResume, .pollingSeconds, .pollingTenths,
          ]
        ).run()
      }
      if wants("disk") { try DiskBenchmark(version: version, rounds: rounds).run() }
      if wants("disk-far") {
        try DiskBenchmark(version: version, rounds: rounds, roundTripMilliseconds: 10).run()
      }
    }
  }
}
