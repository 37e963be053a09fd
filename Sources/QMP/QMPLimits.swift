/// What one monitor connection may cost at most, whatever arrives on it.
///
/// The defaults are far above what QEMU sends: its longest reply (`query-qmp-schema`) has 200 KB
/// and 16,000 values, its deepest message fewer than ten levels.
public struct QMPLimits: Sendable {
  /// Bytes of one message; a longer one is a protocol violation.
  public var maximumLineBytes: Int
  /// Objects and arrays inside each other (1…256).
  public var maximumDepth: Int
  /// Values in one message. A value costs up to a kilobyte while it is parsed, however short its
  /// text is, so the bytes alone would not bound memory.
  public var maximumValues: Int
  /// Commands that wait for their replies.
  public var maximumPendingCommands: Int
  /// Commands that timed out and whose replies may still come; beyond it the oldest is forgotten,
  /// and its late reply counts as unknown.
  public var maximumAbandoned: Int
  /// Bytes of commands that wait to be written.
  public var maximumOutputBytes: Int
  /// Bytes of messages ahead of the greeting, which were meant for an earlier client.
  public var maximumEarlyBytes: Int

  public init(
    maximumLineBytes: Int = 16 << 20, maximumDepth: Int = 32, maximumValues: Int = 65_536,
    maximumPendingCommands: Int = 256, maximumAbandoned: Int = 1024,
    maximumOutputBytes: Int = 16 << 20, maximumEarlyBytes: Int = 1 << 20
  ) {
    self.maximumLineBytes = maximumLineBytes
    self.maximumDepth = maximumDepth
    self.maximumValues = maximumValues
    self.maximumPendingCommands = maximumPendingCommands
    self.maximumAbandoned = maximumAbandoned
    self.maximumOutputBytes = maximumOutputBytes
    self.maximumEarlyBytes = maximumEarlyBytes
  }

  /// The limits for a monitor of QEMU.
  public static let standard = QMPLimits()

  /// The depth in force: parsing recurses, so no setting may exhaust the stack.
  var depth: Int { min(max(maximumDepth, 1), 256) }
}
