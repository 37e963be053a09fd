import MigrationEngine

/// How other hosts are reached by ssh.
public struct SSHOptions: Sendable {
  public enum CarrierChoice: Sendable {
    /// libssh2 for the monitor where it can log in, the system's `ssh` for bulk where that can, and
    /// each for the other's part otherwise.
    case automatic
    case libssh2
    case system
  }

  public var carrier = CarrierChoice.automatic
  /// The ssh command as a list of arguments: the program and its options. What ssh's configuration
  /// says under these options holds for both carriers. Where the address names no host, the
  /// destination stands in here too.
  public var command = ["ssh"]
  /// How long each step of a login may take.
  public var loginLimit = Span.seconds(30)

  public init() {}
}
