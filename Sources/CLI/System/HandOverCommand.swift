/// The operator's command that moves ownership in the cluster.
enum HandOverCommand {
  /// Starts the command in a shell; what it prints goes to standard error.
  static func start(_ command: String, for plan: MigrationPlan) throws -> ChildProgram {
    let own = variables(for: plan)
    let inherited = ChildProgram.environment.filter { entry in
      !own.contains { entry.hasPrefix($0.name + "=") }
    }
    return try ChildProgram(
      ["/bin/sh", "-c", command], environment: inherited + own.map { "\($0.name)=\($0.value)" },
      output: .standardError)
  }

  /// What the command is told about the migration.
  static func variables(for plan: MigrationPlan) -> [(name: String, value: String)] {
    [
      ("SWO_NAME", plan.name ?? ""), ("SWO_SOURCE", plan.source),
      ("SWO_TARGET", plan.target), ("SWO_URI", plan.uri),
      ("SWO_HAND_OVER", plan.handOver.rawValue),
    ]
  }

  /// What the command's end says: 0 is done, 1 is certainly not done, everything else is unknown.
  static func result(of end: ChildProgram.End) -> (result: HandOverResult, how: String) {
    switch end {
    case .exited(0): (.done, "the command exited with 0")
    case .exited(1): (.failed, "the command exited with 1")
    case .exited(let status): (.unknown, "the command exited with \(status), neither 0 nor 1")
    case .signalled(let signal): (.unknown, "the command was ended by signal \(signal)")
    }
  }
}
