import CSwitchover

/// How ssh addresses are reached.
struct SSHPlan: Equatable {
  /// The carriers, by the names that the command line has for them.
  enum Carrier: String, CaseIterable {
    case auto
    case libssh2
    case system

    var libraryValue: swo_ssh_carrier {
      switch self {
      case .auto: .SWO_SSH_AUTO
      case .libssh2: .SWO_SSH_LIBSSH2
      case .system: .SWO_SSH_SYSTEM
      }
    }
  }

  var carrier = Carrier.auto
  /// The ssh program with its options.
  var command = ["ssh"]
  /// 0: as the library has it.
  var loginMilliseconds: UInt32 = 0

  /// The same as words of a command line.
  var words: [String] {
    let carrierWords = carrier == .auto ? [] : ["--ssh-carrier", carrier.rawValue]
    guard command != ["ssh"] else { return carrierWords }
    return carrierWords + ["--ssh-command", shellWord(command.joined(separator: " "))]
  }
}
