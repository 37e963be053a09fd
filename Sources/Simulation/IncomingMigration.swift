/// The receiving side of a migration.
public struct IncomingMigration: Sendable {
  public enum Stage: Sendable {
    case none, deferred, listening, receiving, loading, loaded, failed
  }

  public internal(set) var stage: Stage
  public internal(set) var address: String?
  /// RAM streams in.
  var isStreaming: Bool { stage == .receiving }
  var hasReturnPath = false
  var state: TravellingState?
  /// `migrate-incoming` is taken once.
  var wasAsked = false

  init(_ incoming: QEMUConfiguration.Incoming) {
    switch incoming {
    case .none: stage = .none
    case .deferred: stage = .deferred
    case .listening(let address):
      stage = .listening
      self.address = address
    }
  }
}
