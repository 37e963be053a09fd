import CBenchmarks
import Glibc
import QEMUHarness

/// `switchover-bench [--rounds N] [switchover] [disk] [disk-far] [codec] [reaction] [tunnel]
/// [tunnel-far]`: figures side by side, and whether they reach the goals; status 1 when one was missed.
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
    var goals = Goals()
    if wants("codec") { CodecBenchmark().run() }
    if wants("reaction") { try ReactionBenchmark().run(&goals) }
    if wants("tunnel") { try TunnelBenchmark(rounds: rounds).run(&goals) }
    for version in QEMUVersion.allCases {
      if wants("switchover") {
        try SwitchoverBenchmark(
          version: version, rounds: rounds,
          ways: [
            .floor, .none, .explained, .returnPathFloor, .beforeResume, .pollingSeconds,
            .pollingTenths,
          ]
        ).run(&goals)
      }
      if wants("tunnel-far") {
        try FarTunnelBenchmark(version: version, rounds: rounds).run(&goals)
      }
      if wants("disk") { try DiskBenchmark(version: version, rounds: rounds).run(&goals) }
      if wants("disk-far") {
        try DiskBenchmark(version: version, rounds: rounds, roundTripMilliseconds: 10).run(&goals)
      }
    }
    if goals.missed > 0 {
      print("\n\(goals.missed) goals missed")
      exit(1)
    }
  }
}
