import ArgumentParser

/// `switchover check`
struct CheckCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "check",
    abstract: "Ask both sides whether a migration could succeed.",
    discussion: """
      Connects to both monitors and asks everything that 'migrate' asks first: whether the guest's \
      run state allows it, whether something blocks it or another migration is under way, whether the \
      target waits for a migration, whether machine type and memory size agree, whether both know the \
      capabilities. It prints what it finds and changes nothing. With a target \
      on another host it tells each step of the way there.

      \(HelpText.addresses)

      \(HelpText.ssh)

      \(HelpText.disks)

      EXAMPLE
        switchover check --source /run/a.qmp --target /run/b.qmp \\
            --uri tcp:10.0.0.2:4444

      EXIT STATUS
         0  nothing stands against this migration
         1  wrong usage, or a local error
        10  something does: the guest stays on the source, untouched
        13  a side could not be asked, and who owns the guest is unknown
      """)

  @OptionGroup var arguments: MigrationArguments
  @OptionGroup var report: ReportArguments

  func run() throws {
    let driver = try MigrationDriver(
      arguments.plan, signals: try SignalPipe(), outputs: Outputs(), narrator: narrator)
    let snapshot = try driver.run(.check)
    guard snapshot.isCompleted else { throw CommandFailure(snapshot.exitStatus) }
  }

  private var narrator: any Narrator {
    report.json
      ? JSONNarrator()
      : FindingsNarrator(
        style: Style(of: 2), resultStyle: Style(of: 1), isQuiet: report.quiet,
        isVerbose: report.verbose || arguments.target.hasPrefix("ssh:"))
  }
}
