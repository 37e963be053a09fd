import CPlatform
import Glibc

/// How many clients wait at a unix socket that another process listens on.
///
/// The kernel tells by sock_diag, without any connection to the socket: that is how the holder of a
/// monitor sees that somebody else wants it.
public final class ListenerQueue {
  /// Parts in which the kernel may list its sockets; each holds about a hundred.
  private static let partLimit = 4096

  private let path: String
  private var diag: Descriptor?
  private var listener: swp_unix_listener?

  public init(path: String) { self.path = path }

  /// The number of clients that nobody accepted yet; nil when it cannot be told: the kernel does
  /// not allow or support the question, or nobody in this network namespace listens there.
  public func waitingClients() -> Int? {
    if let known = listener, let current = ask(exactly: known)?.first {
      return Int(current.waiting)
    }
    // The first time, or another process listens there by now.
    listener = find()
    return listener.map { Int($0.waiting) }
  }

  private func find() -> swp_unix_listener? {
    guard let all = ask(exactly: nil) else { return nil }
    var status = stat()
    if result(of: .fileStatus, { stat(path, &status) }) == 0,
      let match = all.first(where: {
        $0.has_file != 0 && $0.file_device == UInt64(status.st_dev)
          && UInt64($0.file_inode) == UInt64(status.st_ino) & 0xFFFF_FFFF
      })
    {
      return match
    }
    // Some file systems number files differently inside: then the name, if only one bears it.
    let named = all.filter { Self.name(of: $0) == path }
    return named.count == 1 ? named.first : nil
  }

  private func ask(exactly listener: swp_unix_listener?) -> [swp_unix_listener]? {
    guard let diag = openDiag() else { return nil }
    let sent = result(of: .netlink) {
      guard var listener else { return swp_diag_request(diag.number, nil) }
      return swp_diag_request(diag.number, &listener)
    }
    guard sent >= 0 else { return forgetDiag() }
    var found: [swp_unix_listener] = []
    for _ in 0..<Self.partLimit {
      let value = withUnsafeMutablePointer(to: &found) { context in
        result(of: .netlink) {
          swp_diag_receive(diag.number, listener == nil ? 1 : 0, context) { context, listener in
            guard let context, let listener else { return }
            context.assumingMemoryBound(to: [swp_unix_listener].self).pointee
              .append(listener.pointee)
          }
        }
      }
      if value == 1 { return found }
      if value < 0 { return forgetDiag() }
    }
    return forgetDiag()
  }

  private func openDiag() -> Descriptor? {
    if diag == nil { diag = try? .made(by: .netlink) { swp_diag_open() } }
    return diag
  }

  /// After a failure, answers to the old question must not be taken for answers to the next.
  private func forgetDiag() -> [swp_unix_listener]? {
    diag = nil
    return nil
  }

  private static func name(of listener: swp_unix_listener) -> String {
    withUnsafeBytes(of: listener.name) { raw in
      let bytes = raw.prefix(max(0, min(Int(listener.name_length), raw.count)))
      return String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }
  }
}
