import Glibc
import MigrationEngine
import Simulation

/// A range of worlds, and what they showed.
struct Campaign {
  /// A campaign of so many worlds is large enough to have come everywhere.
  static let worldsThatMustCoverAll = 100_000

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

  /// Runs them all; answers whether every rule held, and everything was reached.
  mutating func run() -> Bool {
    let began = seconds(CLOCK_PROCESS_CPUTIME_ID)
    let end = options.seconds.map { seconds(CLOCK_MONOTONIC) + Double($0) }
    var last = options.first
    for seed in options.first...options.last {
      if let end, seconds(CLOCK_MONOTONIC) >= end { break }
      last = seed
      let report = runWorld(seed)
      if !report.violations.isEmpty && !options.keepsGoing { break }
    }
    guard options.first != options.last, !options.printsHashes else { return broken == 0 }
    printCoverage()
    print("seeds \(options.first)..\(last):")
    printFigures(seconds(CLOCK_PROCESS_CPUTIME_ID) - began)
    return coversAll() && broken == 0
  }

  private mutating func runWorld(_ seed: UInt64) -> RunReport {
    let world = World(Scenario(seed: seed), seed: seed, isVerbose: options.isVerbose)
    let report = world.run()
    for line in world.log.lines { print(line) }
    count(report)
    for violation in report.violations {
      broken += 1
      let at = violation.at.nanoseconds / 1_000
      print("seed \(seed): \(violation.rule.rawValue): \(violation.text) (at \(at) us)")
      fflush(nil)
    }
    if options.printsHashes || options.first == options.last {
      print(
        "seed \(seed): log hash \(String(report.hash, radix: 16)), \(report.happenings) happenings")
    }
    return report
  }

  private func seconds(_ clock: clockid_t) -> Double {
    var time = timespec()
    clock_gettime(clock, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1_000_000_000
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

  // MARK: - Words

  private func printCoverage() {
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
  }

  private func printFigures(_ seconds: Double) {
    let rate = Int(Double(worlds) / max(seconds, 0.000_001))
    print(
      "\(worlds) worlds, \(happenings) happenings, \(simulatedSeconds) simulated seconds in "
        + "\(Int(seconds * 1000)) ms of processor time: \(rate) worlds/s; \(broken) violations")
  }

  /// Whether every kind of fault struck and every row was taken, where that can be asked.
  private func coversAll() -> Bool {
    guard worlds >= Self.worldsThatMustCoverAll else { return true }
    var isComplete = true
    for (kind, count) in zip(FaultKind.allCases, struck) where count == 0 {
      print("never struck: \(kind.rawValue)")
      isComplete = false
    }
    for (row, count) in zip(MigrationPhase.transitions, transitions) where count == 0 {
      print("never taken: \(row.from) -> \(row.to): \(row.when)")
      isComplete = false
    }
    if isComplete {
      print("every kind of fault struck, and every row of the transition table was taken")
    }
    return isComplete
  }
}
