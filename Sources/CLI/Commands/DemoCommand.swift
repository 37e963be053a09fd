import ArgumentParser

/// `switchover demo`
struct DemoCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "demo",
    abstract: "Watch a guest move between two real QEMUs, there and back.",
    discussion: """
      Starts two QEMUs on this machine in a private directory. The guest inside is a few hundred \
      bytes of its own: it counts ticks, a thousand a second, writes every one to its serial port, \
      and keeps changing its memory. It moves from A to B and back. After each move you see where \
      every microsecond of the blackout went by QEMU's clock, and the guest's own view of it: the \
      silence between its last tick here and its first tick there, measured from outside. Nothing \
      is left behind. It needs no privileges and no KVM.

      With --disk each machine has a disk of its own, and the guest writes a numbered sector after \
      every tick. The disk is mirrored and moves along; at the end it is compared with every write \
      that was acknowledged to the guest.

      With --ssh each machine is reached from the other by ssh alone, through an sshd that is started \
      on loopback with keys of its own. That needs Debian's openssh-server, not a running one.

      EXAMPLES
        switchover demo
        switchover demo --rounds 5
        switchover demo --disk
        switchover demo --ssh
        switchover demo --qemu /usr/local/bin/qemu-system-x86_64

      \(HelpText.exitStatus)
      """)

  @Option(help: ArgumentHelp("The QEMU to run.", valueName: "path"))
  var qemu = "qemu-system-x86_64"

  @Option(help: ArgumentHelp("How many times there and back.", valueName: "n"))
  var rounds = 1

  @Flag(help: "Give the guest a local disk, which moves along.")
  var disk = false

  @Flag(help: "Let the machines reach each other by ssh, through a real sshd.")
  var ssh = false

  @Flag(help: "Leave the last QEMU and its directory at the end, to look around.")
  var keep = false

  func validate() throws {
    guard (1...1000).contains(rounds) else { throw ValidationError("--rounds is 1 to 1000.") }
  }

  func run() throws {
    let demonstration = try Demonstration(qemu: qemu, rounds: rounds, hasDisk: disk, usesSSH: ssh)
    let status = try demonstration.run(keep: keep)
    guard status == .asAsked else { throw CommandFailure(status) }
  }
}
