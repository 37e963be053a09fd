import Glibc

/// The operator's command that proves a QEMU dead, or makes it so.
enum FenceCommand {
  /// Runs the command in a shell until it ends; true where it exits with 0, which is its word that the
  /// side cannot run now, nor later by itself.
  ///
  /// What it prints goes to standard error. An interruption ends the waiting, and proves nothing.
  static func proves(
    _ side: Side, by command: String, journal: JournalSummary?, plan: RecoveryPlan,
    signals: SignalPipe
  ) throws -> Bool {
    let own = variables(side, journal, plan)
    let inherited = ChildProgram.environment.filter { entry in
      !own.contains { entry.hasPrefix($0.name + "=") }
    }
    let child = try ChildProgram(
      ["/bin/sh", "-c", command], environment: inherited + own.map { "\($0.name)=\($0.value)" },
      output: .standardError)
    while !child.hasEnded() {
      _ = waitForDescriptors([(signals.descriptor, Int16(POLLIN))], timeoutMilliseconds: -1)
      if signals.takeArrived().contains(where: SignalPipe.interruptions.contains) {
        child.send(SIGTERM)
        return false
      }
    }
    return child.end == .exited(status: 0)
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
}
