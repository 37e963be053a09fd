import Glibc

/// The operator's command that proves a QEMU dead, or makes it so.
struct FenceCommand: Equatable {
  /// How long it may take unless somebody says otherwise, milliseconds.
  static let timeout: UInt64 = 60_000
  /// From the request to end to the end by force, milliseconds.
  private static let graceMilliseconds: UInt64 = 2000

  var command: String
  var timeoutMilliseconds = Self.timeout

  /// Runs the command until it ends; nil where it exits with 0, which is its word that the side cannot
  /// run now, nor later by itself. Otherwise why nothing is proven.
  ///
  /// What it prints goes to standard error. When its time is over, or somebody interrupts, it is ended
  /// with all that it has started, and proves nothing.
  func doubt(
    about side: Side, journal: JournalSummary?, plan: RecoveryPlan, signals: SignalPipe
  ) throws -> String? {
    let own = Self.variables(side, journal, plan)
    let inherited = ChildProgram.environment.filter { entry in
      !own.contains { entry.hasPrefix($0.name + "=") }
    }
    let child = try ChildProgram(
      words, environment: inherited + own.map { "\($0.name)=\($0.value)" }, output: .standardError)
    let deadline = Self.instant(after: timeoutMilliseconds)
    while !child.hasEnded() {
      guard monotonicNanoseconds() < deadline else {
        Self.end(child, signals)
        return "the command had not ended after \(timeoutMilliseconds) ms"
      }
      Self.wait(signals, until: deadline)
      if signals.takeArrived().contains(where: SignalPipe.interruptions.contains) {
        Self.end(child, signals)
        return "interrupted"
      }
    }
    switch child.end {
    case .exited(0): return nil
    case .exited(let status): return "the command exited with \(status)"
    case .signalled(let signal): return "the command was ended by signal \(signal)"
    case nil: return "the command's end is not known"
    }
  }

  /// The program and its arguments; plain words after the path of a program need no shell.
  var words: [String] {
    let isPlain = command.utf8.allSatisfy { byte in
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"):
        true
      default: " /._-:,+@%".utf8.contains(byte)
      }
    }
    guard isPlain, command.hasPrefix("/") else { return ["/bin/sh", "-c", command] }
    return command.split(separator: " ").map(String.init)
  }

  /// What the command is told.
  static func variables(
    _ side: Side, _ journal: JournalSummary?, _ plan: RecoveryPlan
  ) -> [(name: String, value: String)] {
    let monitor = (side == .source ? plan.source : plan.target) ?? journal?.monitor(side) ?? ""
    let process = journal?.process(side) ?? 0
    return [
      ("SWO_SIDE", side.rawValue), ("SWO_MONITOR", monitor),
      ("SWO_PROCESS", process > 0 ? String(process) : ""), ("SWO_NAME", journal?.name ?? ""),
    ]
  }

  private static func end(_ child: ChildProgram, _ signals: SignalPipe) {
    child.sendToGroup(SIGTERM)
    let deadline = instant(after: graceMilliseconds)
    while !child.hasEnded(), monotonicNanoseconds() < deadline {
      wait(signals, until: deadline)
      _ = signals.takeArrived()
    }
    child.sendToGroup(SIGKILL)
  }

  private static func instant(after milliseconds: UInt64) -> UInt64 {
    let (span, overflow) = milliseconds.multipliedReportingOverflow(by: 1_000_000)
    let (instant, late) = monotonicNanoseconds().addingReportingOverflow(span)
    return overflow || late ? .max : instant
  }

  /// Until a signal arrives, the end of a child among them, or until the instant.
  private static func wait(_ signals: SignalPipe, until instant: UInt64) {
    let now = monotonicNanoseconds()
    let rest = instant > now ? (instant - now) / 1_000_000 + 1 : 0
    _ = waitForDescriptors(
      [(signals.descriptor, Int16(POLLIN))], timeoutMilliseconds: Int32(clamping: rest))
  }
}
