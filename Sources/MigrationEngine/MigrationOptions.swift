/// A value for a migration parameter, exact for QEMU's 64-bit integers.
public enum ParameterValue: Hashable, Sendable {
  case integer(Int64)
  case unsigned(UInt64)
  case boolean(Bool)
  case string(String)
}

/// What the caller asks of one migration.
public struct MigrationOptions: Sendable {
  /// A name for texts.
  public var name = "guest"
  /// The uri for `migrate`, as QEMU writes it.
  public var uri = ""
  /// The uri for `migrate-incoming` on a target started with `-incoming defer`; nil: `uriOnTarget`.
  public var incomingURI: String?
  /// What the target's host calls the place that `uri` leads to; nil: `uri`.
  public var uriOnTarget: String?
  public var handOver = HandOverMode.beforeResume
  public var sourceEnd = SourceEnd.keep
  /// QEMU's `downtime-limit` at the start, milliseconds; nil: as QEMU has it.
  public var downtimeLimitMilliseconds: Int64?
  /// How far the ramp may raise `downtime-limit`, milliseconds; 0: no ramp.
  public var highestDowntimeLimitMilliseconds: Int64 = 2_000_000
  /// QEMU's `max-bandwidth`, bytes a second; 0: no limit.
  public var bandwidthBytesPerSecond: UInt64 = 0
  /// Capabilities that the caller wants on both sides, in order.
  public var capabilities: [(name: String, on: Bool)] = []
  /// Parameters that the caller wants on both sides, in order.
  public var parameters: [(name: String, value: ParameterValue)] = []
  /// From `migrate` to the switchover; nil: no limit.
  public var transferDeadline: Span?
  /// How long a monitor may take to greet at the start.
  public var connectDeadline = Span.seconds(5)
  /// How long a lost monitor may take to come back.
  public var reconnectDeadline = Span.seconds(30)
  /// Other programs use the source's monitor too: it is let go of for them where that is safe.
  public var sourceMonitorIsShared = false
  public var storage = StorageOptions()
  /// The intent is made durable before anything is changed; without it nothing is.
  public var isJournaled = false
  /// Ends after the preflight, with nothing changed.
  public var checkOnly = false

  public init() {}

  /// Capabilities that the switchover itself depends on; a caller may not set them.
  public static let reservedCapabilities: Set<String> = [
    "events", "return-path", "pause-before-switchover", "postcopy-ram", "late-block-activate",
  ]
  /// Most capabilities, and most parameters, that a caller may set.
  public static let maximumSettings = 32
}
