import CMalloc
import Glibc
import MigrationEngine
import Simulation

/// A range of worlds, and what they showed.
struct Campaign {
  /// A campaign of so many worlds is large enough to have come everywhere.
  static let worldsThatMustCoverAll = 100_000
  /// Worlds after which a process has what it keeps.
  private static let worldsOfWarming = 1_000
  /// Worlds over which memory in use is compared.
  private static let worldsThatShowLeaks = 10_000
  /// What may be in use more after them: a process's tables grow, and a world that lost one object of four
  /// would come to more.
  private static let bytesOfAProcess = 100_000
  private static let bytesOfAWorld = 4

  private let options: Options
  private var tally = Tally()

  init(_ options: Options) { self.options = options }

  /// Runs them all; answers whether every rule held, and everything was reached.
  mutating func run() -> Bool {
    let options = options
    let work = { (share: Share) in
      var part = Campaign(options)
      part.run(share)
      return part.tally
    }
    guard let tally = Workers.run(options.jobs, stopsWhenBroken: !options.keepsGoing, work) else {
      print("a process of this campaign did not come to its end")
      return false
    }
    self.tally = tally
    let holds = tally[Tally.broken] == 0
    guard options.first != options.last, !options.printsHashes else { return holds }
    printCoverage()
    printFigures()
    return coversAll() && keepsNothing() && holds
  }

  private mutating func run(_ share: Share) {
    let began = seconds(CLOCK_PROCESS_CPUTIME_ID)
    let end = options.seconds.map { seconds(CLOCK_MONOTONIC) + Double($0) }
    var inUse: Int?
    for seed in options.first...options.last
    where (seed - options.first) % UInt64(share.count) == UInt64(share.index) {
      if let end, seconds(CLOCK_MONOTONIC) >= end { break }
      if runWorld(seed) { break }
      if tally[Tally.worlds] == Self.worldsOfWarming { inUse = Self.bytesInUse }
    }
    let worlds = tally[Tally.worlds] - Self.worldsOfWarming
    if let inUse, worlds >= Self.worldsThatShowLeaks {
      tally.add("worlds with their memory watched", worlds)
      tally.add("bytes kept", Self.bytesInUse - inUse)
      tally.add("processes watched")
    }
    tally.add(Tally.milliseconds, Int((seconds(CLOCK_PROCESS_CPUTIME_ID) - began) * 1000))
  }

  /// Answers whether it was what was looked for.
  private mutating func runWorld(_ seed: UInt64) -> Bool {
    let world = World(Scenario(seed: seed), seed: seed, isVerbose: options.isVerbose)
    let report = world.run()
    for line in world.log.lines { print(line) }
    tally.add(report)
    for violation in report.violations {
      tally.add(Tally.broken)
      let at = violation.at.nanoseconds / 1_000
      print("seed \(seed): \(violation.rule.rawValue): \(violation.text) (at \(at) us)")
      fflush(nil)
    }
    if options.printsHashes || options.first == options.last {
      print(
        "seed \(seed): log hash \(String(report.hash, radix: 16)), \(report.happenings) happenings")
    }
    if let rule = options.until { return report.violations.contains { $0.rule == rule } }
    return !report.violations.isEmpty && !options.keepsGoing
  }

  private func seconds(_ clock: clockid_t) -> Double {
    var time = timespec()
    clock_gettime(clock, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1_000_000_000
  }

  private static var bytesInUse: Int { Int(mallinfo2().uordblks) }

  // MARK: - Words

  private func printCoverage() {
    print("ends:")
    for end in tally.names(of: "end ") { print("  \(tally["end \(end)"])  \(end)") }
    print("faults that struck:")
    for kind in FaultKind.allCases {
      print("  \(tally["fault \(kind.rawValue)"])  \(kind.rawValue)")
    }
    print("rows of the transition table:")
    for (index, row) in MigrationPhase.transitions.enumerated() {
      print("  \(tally["row \(index)"])  \(row.from) -> \(row.to): \(row.when)")
    }
    print("rows of the recovery table:")
    for rule in RecoveryTable.rules { print("  \(tally["rule \(rule.name)"])  \(rule.name)") }
    print(
      "pauses that QEMU does not tell from the switchover's own STOP: \(tally["ambiguous pauses"])")
  }

  private func printFigures() {
    let worlds = tally[Tally.worlds]
    let milliseconds = tally[Tally.milliseconds]
    print("seeds from \(options.first) on:")
    print(
      "\(worlds) worlds, \(tally["happenings"]) happenings, \(tally["simulated seconds"]) simulated "
        + "seconds in \(milliseconds) ms of processor time: "
        + "\(worlds * 1000 / max(milliseconds, 1)) worlds/s a processor; "
        + "\(tally[Tally.broken]) violations")
  }

  /// Whether every kind of fault struck and every row was taken, where that can be asked.
  private func coversAll() -> Bool {
    guard tally[Tally.worlds] >= Self.worldsThatMustCoverAll else { return true }
    var isComplete = true
    for kind in FaultKind.allCases where tally["fault \(kind.rawValue)"] == 0 {
      print("never struck: \(kind.rawValue)")
      isComplete = false
    }
    for (index, row) in MigrationPhase.transitions.enumerated() where tally["row \(index)"] == 0 {
      print("never taken: \(row.from) -> \(row.to): \(row.when)")
      isComplete = false
    }
    if isComplete {
      print("every kind of fault struck, and every row of the transition table was taken")
    }
    return isComplete
  }

  /// Whether no process has more memory in use after many worlds than after the first ones.
  private func keepsNothing() -> Bool {
    let worlds = tally["worlds with their memory watched"]
    guard worlds > 0 else { return true }
    let bytes = tally["bytes kept"]
    print("\(bytes) bytes more in use after \(worlds) worlds than before them")
    return bytes
      < Self.bytesOfAProcess * tally["processes watched"] + Self.bytesOfAWorld * worlds
  }
}
