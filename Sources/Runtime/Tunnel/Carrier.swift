import Platform

/// A login on another host that carries streams to its unix sockets.
///
/// It knows nothing of migrations: the tunnel says what is to lead where, and the session sees only
/// streams and endpoints.
protocol Carrier: AnyObject {
  /// What it is, for people; more is known once it is ready.
  var name: String { get }
  /// Whether it has logged in, and has not been lost since.
  var isReady: Bool { get }

  /// Begins to log in; its owner hears what became of it, maybe before this returns.
  func open()

  /// Brings the stream a connection to a socket of the other host, or says why there is none.
  func connect(_ stream: Stream, to path: String)

  /// Lets go of everything: connections end, and nothing stays behind.
  func close()
}

/// Whoever a carrier tells what happened.
protocol CarrierOwner: AnyObject {
  func carrierOpened(_ carrier: any Carrier)
  /// It could not log in, or is lost; it is of no more use.
  func carrierFailed(_ carrier: any Carrier, _ text: String)
  func carrierSaid(_ text: String, isWarning: Bool)
}

/// Waits for a descriptor on behalf of somebody who has several.
final class DescriptorWatch: Watcher {
  let descriptor: Descriptor
  private(set) var interest: Interest
  private weak var loop: Loop?
  private let body: (ReadyFlags) -> Void

  init(
    _ descriptor: Descriptor, _ interest: Interest, in loop: Loop,
    _ body: @escaping (ReadyFlags) -> Void
  ) throws(SystemError) {
    self.descriptor = descriptor
    self.interest = interest
    self.loop = loop
    self.body = body
    super.init()
    try loop.watch(self, descriptor, interest)
  }

  override func becameReady(_ flags: ReadyFlags) { body(flags) }

  func change(_ wanted: Interest) {
    guard wanted != interest, (try? loop?.change(self, descriptor, wanted)) != nil else { return }
    interest = wanted
  }

  /// Stops waiting; the descriptor stays open.
  func stop() { loop?.unwatch(self, descriptor) }
}
