/// What travels between two QEMUs on the migration connection, as far as its order and its loss
/// matter.
public enum MigrationMessage: Sendable {
  /// The first bytes, with the sizes of the RAM blocks.
  case header(memoryBytes: UInt64, wantsReturnPath: Bool)
  case memory
  /// The rest of the RAM, and the names of the devices whose state follows.
  case devices([String])
  /// The state of every device, and the end.
  case state(TravellingState)
  /// On the return path: the target has loaded, or cannot.
  case loaded(Bool)
}

/// The guest as it travels.
public struct TravellingState: Sendable {
  /// The run state at the switchover.
  public var runState: QEMURunState
  public var guest: SimulatedGuest
}
