import MigrationSession

/// The command line of the system's ssh.
struct SSHCommand {
  /// What must be so for a child that nobody sits before, and that may not accept a key by itself.
  /// Given behind the caller's own words, of which ssh takes the first: `SSHSettings` looks at what
  /// came of it.
  static let options = [
    "BatchMode=yes", "StrictHostKeyChecking=yes", "UpdateHostKeys=no", "ExitOnForwardFailure=yes",
    "ControlMaster=no", "ControlPath=none", "PermitLocalCommand=no", "RemoteCommand=none",
    "RequestTTY=no", "ForwardAgent=no", "ForwardX11=no", "Compression=no",
    "StreamLocalBindUnlink=yes", "StreamLocalBindMask=0177", "ServerAliveInterval=15",
    "ServerAliveCountMax=3", "LogLevel=INFO",
  ]

  private let command: [String]
  private let destination: [String]

  init(_ command: [String], user: String?, host: String, port: UInt16?) {
    self.command = command
    guard !host.isEmpty else {
      destination = []
      return
    }
    let login = user.map { ["-l", $0] } ?? []
    destination = (port.map { ["-p", "\($0)"] } ?? []) + login + ["--", host]
  }

  /// Asks ssh what its configuration says.
  var questionArguments: [String] {
    command + Self.words(Self.options) + ["-G"] + destination
  }

  /// Logs in, forwards, and runs `remoteCommand`.
  ///
  /// - Parameter forwards: paths here and there.
  func arguments(
    options: [String], forwards: [(local: String, remote: String)], remoteCommand: String
  ) -> [String] {
    let pairs = forwards.flatMap { ["-L", "\(Self.escaped($0.local)):\(Self.escaped($0.remote))"] }
    return command + Self.words(Self.options + options) + pairs + destination + [remoteCommand]
  }

  private static func words(_ options: [String]) -> [String] { options.flatMap { ["-o", $0] } }

  /// ssh takes a colon for a border, a backslash for an escape and `%` for a token.
  private static func escaped(_ path: String) -> String {
    var result = ""
    for character in path {
      switch character {
      case ":", "\\": result += "\\\(character)"
      case "%": result += "%%"
      default: result.append(character)
      }
    }
    return result
  }
}
