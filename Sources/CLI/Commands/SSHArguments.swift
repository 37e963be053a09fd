import ArgumentParser

/// How ssh addresses are reached; for every command that takes addresses.
struct SSHArguments: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Who carries ssh addresses: libssh2, system (the ssh program), or auto, each for what it does "
        + "best.",
      valueName: "carrier"))
  var sshCarrier = SSHPlan.Carrier.auto

  @Option(
    help: ArgumentHelp(
      "The ssh program and its options, parted by blanks. (default: ssh)", valueName: "command"))
  var sshCommand: String?

  @Option(
    parsing: .unconditionalSingleValue,
    help: ArgumentHelp(
      "An option as in ssh_config(5), such as IdentityFile=/path; may be repeated.",
      valueName: "name=value"))
  var sshOption: [String] = []

  func validate() throws {
    if let sshCommand, sshCommand.allSatisfy(\.isWhitespace) {
      throw ValidationError("--ssh-command is empty.")
    }
    for option in sshOption where !option.contains("=") {
      throw ValidationError("--ssh-option is name=value: '\(option)'.")
    }
  }

  var plan: SSHPlan {
    var plan = SSHPlan(carrier: sshCarrier)
    if let sshCommand {
      plan.command = sshCommand.split(whereSeparator: \.isWhitespace).map(String.init)
    }
    plan.command += sshOption.flatMap { ["-o", $0] }
    return plan
  }
}

extension SSHPlan.Carrier: ExpressibleByArgument {}
