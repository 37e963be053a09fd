import DemoGuest

/// Two QEMUs of one virtual machine, ready to migrate: the source runs, the target waits.
public final class QEMUPair: Sendable {
  /// How a pair is brought up.
  public struct Options: Sendable {
    /// What both sides have in common: the version, memory, guest, monitors.
    public var common = QEMUProcess.Options()
    /// The target's version, if it is another one.
    public var targetVersion: QEMUVersion?
    /// The value of the target's `-incoming`; `defer` waits for `migrate-incoming`.
    public var incoming = Incoming.deferred
    /// Whether the target is started with `-S`.
    public var targetStartsPaused = true
    /// Whether the source's guest does not run when the pair is ready.
    public var sourceStartsPaused = false
    public var sourceArguments: [String] = []
    public var targetArguments: [String] = []

    public init(_ version: QEMUVersion = .system72) {
      common.version = version
    }
  }

  /// What the target listens to when it has been started.
  public enum Incoming: Sendable {
    /// `-incoming defer`
    case deferred
    /// `-incoming` with `QEMUPair.migrationAddress`
    case unix
  }

  public let directory: TemporaryDirectory
  public let source: QEMUProcess
  public let target: QEMUProcess
  public let ticks: TickReader
  /// The address for `migrate` and `migrate-incoming`: a unix socket in the pair's directory.
  public let migrationAddress: String

  /// Starts both; unless it starts paused, the source's guest ticks when this returns.
  public init(_ options: Options = Options()) throws {
    directory = try TemporaryDirectory()
    migrationAddress = "unix:" + directory.file("migration.sock")

    var sourceOptions = options.common
    sourceOptions.startsPaused = options.sourceStartsPaused
    sourceOptions.arguments += options.sourceArguments
    source = try QEMUProcess(sourceOptions, name: "source", in: directory)

    var targetOptions = options.common
    targetOptions.version = options.targetVersion ?? options.common.version
    targetOptions.startsPaused = options.targetStartsPaused
    switch options.incoming {
    case .deferred: targetOptions.incoming = "defer"
    case .unix: targetOptions.incoming = migrationAddress
    }
    targetOptions.arguments += options.targetArguments
    target = try QEMUProcess(targetOptions, name: "target", in: directory)

    ticks = TickReader(source: source, target: target)
    guard options.sourceStartsPaused || ticks.isTicking(.source) else {
      throw HarnessError("the guest does not tick on the source: \(source.standardError)")
    }
  }

  deinit {
    close()
  }

  public func process(_ side: Side) -> QEMUProcess {
    side == .source ? source : target
  }

  /// Ends both sides and deletes their files.
  public func close() {
    source.kill()
    target.kill()
    source.close()
    target.close()
    directory.remove()
  }
}
