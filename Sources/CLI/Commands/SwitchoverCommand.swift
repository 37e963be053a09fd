import ArgumentParser
import CSwitchover

/// The root of the command line.
struct SwitchoverCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "switchover",
    abstract: "Live migration of QEMU virtual machines with the switchover done right.",
    discussion: """
      A running virtual machine moves from one QEMU to another. It stands still for as short as QEMU \
      itself allows, and at every instant exactly one side may run it, whatever fails. Both QEMUs are \
      reached through their QMP monitors; neither needs anything installed.

      EXAMPLES
      See it work first: two QEMUs of its own, a guest that ticks, there and back.
        switchover demo
      Ask both sides whether a migration could succeed; change nothing.
        switchover check --source /run/a.qmp --target /run/b.qmp \\
            --uri tcp:10.0.0.2:4444
      Do it.
        switchover migrate --source /run/a.qmp --target /run/b.qmp \\
            --uri tcp:10.0.0.2:4444
      Settle who owns a guest after its migration was abandoned.
        switchover recover /var/lib/switchover/vm_100.journal
      Ask a QEMU by hand.
        switchover qmp /run/b.qmp query-status

      EXIT STATUS
      The exit status tells who owns the guest now:
      \(ExitStatus.table)
      ('qmp' has its own, see there.)
      """,
    version: version,
    subcommands: [
      MigrateCommand.self, CheckCommand.self, RecoverCommand.self, QMPCommand.self,
      DemoCommand.self,
    ])

  /// This program's version and, if it is another one, the library's.
  private static var version: String {
    let own = "\(SWO_VERSION_MAJOR).\(SWO_VERSION_MINOR).\(SWO_VERSION_PATCH)"
    let library = libraryVersion()
    return library == own ? "switchover \(own)" : "switchover \(own) (libswitchover \(library))"
  }
}
