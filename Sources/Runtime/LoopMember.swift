import MigrationSession
import Platform

/// What lives in a loop: a migration or a QMP client.
///
/// A member belongs to its owner outside; the loop knows it until `close`, or until the loop itself
/// is closed, whichever comes first.
public class LoopMember {
  /// The loop that carries it; nil once either is closed.
  public private(set) weak var loop: Loop?
  /// Whose handle this is, for the owner to find it again from an event.
  public weak var handle: AnyObject?

  /// Kept by `DeadlineQueue`.
  var deadlinePosition: Int?
  /// Kept by `EventQueue`.
  var queuedEvents = 0
  var queuedEventBytes = 0
  var progressIsQueued = false

  init(in loop: Loop) {
    self.loop = loop
    loop.add(self)
  }

  /// Leaves the loop and closes its connections; nothing is sent. A fork only closes its copies.
  public func close() {
    guard let loop else { return }
    closeStreams()
    loop.remove(self)
    self.loop = nil
  }

  func loopCloses() {
    closeStreams()
    loop = nil
  }

  // What the subclasses do.

  func closeStreams() {}
  /// Makes the record durable that `Loop.store` was told of.
  func storeRecord() {}
  func deadlineReached() {}
  /// Goes on with what `Loop.postpone` put off.
  func continuePostponed() {}
  func streamOpened(_ stream: Stream) {}
  /// The stream could not be opened; it is closed.
  func streamFailed(_ stream: Stream, _ failure: OpenFailure) {}
  func streamReceived(_ bytes: UnsafeRawBufferPointer, on stream: Stream) {}
  /// End of file or an error that ended it; it is closed.
  func streamEnded(_ stream: Stream) {}
  func processExited(_ watch: ExitWatch) {}
}
