import Glibc
import MigrationEngine
import Simulation

/// A range of worlds, and what they showed.
struct Campaign {
  private let options: Options
  private var struck = [Int](repeating: 0, count: FaultKind.allCases.count)
  private var transitions = [Int](repeating: 0, count: MigrationPhase.transitions.count)
  private var ends: [(name: String, count: Int)] = []
  private var worlds = 0
  private var happenings = 0
  private var simulatedSeconds: Int64 = 0
  private var broken = 0
  private var ambiguousPauses = 0
  private var recoveries = [Int](repeating: 0, count: RecoveryTable.rules.count)

  init(_ options: Options) { self.options = options }

  /// Runs them all; answers whether every rule held.
  mutating func run() -> Bool {
    var began = timespec()
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &began)
    for seed in options.first...options.last {
      let world = World(Scenario(seed: seed), seed: seed, isVerbose: options.isVerbose)
      let report = world.run()
      for line in world.log.lines { print(line) }
      count(report)
      for violation in report.violations {
        broken += 1
        let at = violation.at.nanoseconds / 1_000
        print("seed \(seed): \(violation.rule.rawValue): \(violation.text) (at \(at) us)")
      }
      if options.first == options.last {
        print(
          "seed \(seed): log hash \(String(report.hash, radix: 16)), \(report.happenings) happenings"
        )
      }
      if !report.violations.isEmpty && !options.keepsGoing { break }
    }
    var ended = timespec()
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ended)
    let seconds =
      Double(ended.tv_sec - began.tv_sec) + Double(ended.tv_nsec - began.tv_nsec) / 1_000_000_000
    printSummary(seconds)
    return broken == 0
  }

  private mutating func count(_ report: RunReport) {
    worlds += 1
    happenings += report.happenings
    ambiguousPauses += report.ambiguousPauses
    for name in report.recoveryRules {
      if let index = RecoveryTable.rules.firstIndex(where: { $0.name == name }) {
        recoveries[index] += 1
      }
    }
    simulatedSeconds += report.duration.milliseconds / 1000
    for kind in report.struck {
      if let index = FaultKind.allCases.firstIndex(of: kind) { struck[index] += 1 }
    }
    for (index, times) in report.transitions.enumerated() { transitions[index] += times }
    let name =
      report.conclusion.map { "\($0.end), owner \($0.owner), guest \($0.guest)" } ?? "no end"
    if let index = ends.firstIndex(where: { $0.name == name }) {
      ends[index].count += 1
    } else {
      ends.append((name, 1))
    }
  }

  private func printSummary(_ seconds: Double) {
    guard options.first != options.last else { return }
    print("ends:")
    for end in ends.sorted(by: { $0.count > $1.count }) { print("  \(end.count)  \(end.name)") }
    print("faults that struck:")
    for (kind, count) in zip(FaultKind.allCases, struck) { print("  \(count)  \(kind.rawValue)") }
    print("rows of the transition table:")
    for (row, count) in zip(MigrationPhase.transitions, transitions) {
      print("  \(count)  \(row.from) -> \(row.to): \(row.when)")
    }
    print("rows of the recovery table:")
    for (rule, count) in zip(RecoveryTable.rules, recoveries) { print("  \(count)  \(rule.name)") }
    print("pauses that QEMU does not tell from the switchover's own STOP: \(ambiguousPauses)")
    let rate = Int(Double(worlds) / max(seconds, 0.000_001))
    print(
      "\(worlds) worlds, \(happenings) happenings, \(simulatedSeconds) simulated seconds in "
        + "\(Int(seconds * 1000)) ms of processor time: \(rate) worlds/s; \(broken) violations")
  }
}

func exitNow(_ status: Int32) -> Never { exit(status) }
