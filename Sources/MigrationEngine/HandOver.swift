/// The host program's own act of moving ownership in its cluster.
struct HandOver: Sendable {
  enum State: Hashable, Sendable {
    case notOffered
    case offered
    case reported(HandOverResult)
    /// It was done, and the host program moved ownership back to the source.
    case handedBack
  }

  private(set) var state = State.notOffered

  mutating func offer() { state = .offered }

  mutating func report(_ result: HandOverResult) {
    guard state == .offered else { return }
    state = .reported(result)
  }

  mutating func handBack() {
    guard state != .notOffered else { return }
    state = .handedBack
  }

  /// Ownership in the cluster is certainly with the source.
  var isWithSource: Bool {
    switch state {
    case .notOffered, .reported(.failed), .handedBack: true
    case .offered, .reported(.done), .reported(.unknown): false
    }
  }

  var isDone: Bool { state == .reported(.done) }
}
