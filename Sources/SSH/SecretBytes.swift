import CSSHTransport

/// Bytes that nobody else may see: a passphrase or a private key.
///
/// They lie in one place, followed by a zero byte that is not counted, and are overwritten when the
/// last owner lets go. They print as nothing.
public final class SecretBytes: CustomStringConvertible, CustomDebugStringConvertible {
  private let storage: UnsafeMutableRawBufferPointer
  /// How many bytes there are.
  public let count: Int

  /// Room for `count` bytes, which `fill` writes; it returns how many it wrote.
  public init<Failure: Error>(
    capacity: Int, fill: (UnsafeMutableRawBufferPointer) throws(Failure) -> Int
  ) throws(Failure) {
    let storage = UnsafeMutableRawBufferPointer.allocate(byteCount: capacity + 1, alignment: 1)
    storage.initializeMemory(as: UInt8.self, repeating: 0)
    do {
      let written = try fill(UnsafeMutableRawBufferPointer(rebasing: storage[..<capacity]))
      count = min(max(written, 0), capacity)
      self.storage = storage
    } catch {
      Self.discard(storage)
      throw error
    }
  }

  /// A copy of `bytes`; the caller's own copy stays the caller's to overwrite.
  public convenience init(copying bytes: UnsafeRawBufferPointer) {
    self.init(capacity: bytes.count) { room in
      room.copyMemory(from: bytes)
      return bytes.count
    }
  }

  deinit { Self.discard(storage) }

  public var description: String { "(secret)" }
  public var debugDescription: String { "(secret)" }

  /// Lends the bytes, with a zero byte behind the last.
  func withBytes<Result>(_ body: (UnsafeBufferPointer<CChar>) -> Result) -> Result {
    body(UnsafeBufferPointer(rebasing: storage.bindMemory(to: CChar.self)[..<count]))
  }

  private static func discard(_ storage: UnsafeMutableRawBufferPointer) {
    if let base = storage.baseAddress { ssh_wipe(base, storage.count) }
    storage.deallocate()
  }
}
