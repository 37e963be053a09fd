/// A constant as a C string, valid for ever.
func constant(_ text: StaticString) -> UnsafePointer<CChar> {
  UnsafeRawPointer(text.utf8Start).assumingMemoryBound(to: CChar.self)
}

/// A text of a handle as a C string.
///
/// The pointer stays the same while the text does, and valid until it changes or the handle goes.
final class OwnedText {
  private var text = ""
  private var bytes: UnsafeMutableBufferPointer<CChar>?

  deinit { bytes?.deallocate() }

  func pointer(to text: String) -> UnsafePointer<CChar> {
    if let base = bytes?.baseAddress, text == self.text { return UnsafePointer(base) }
    bytes?.deallocate()
    self.text = text
    let characters = text.utf8CString
    let fresh = UnsafeMutableBufferPointer<CChar>.allocate(capacity: characters.count)
    _ = fresh.initialize(from: characters)
    bytes = fresh
    return fresh.baseAddress.map { UnsafePointer($0) } ?? constant("")
  }

  /// The same for a JSON text.
  func pointer(to json: [UInt8]) -> UnsafePointer<CChar> {
    pointer(to: String(decoding: json, as: UTF8.self))
  }
}

/// A text that came in, which must be UTF-8 and there.
func text(
  _ pointer: UnsafePointer<CChar>?, _ name: StaticString, limit: Int = 4096
) throws(CallFailure) -> String {
  guard let pointer else { throw .invalid("\(name) is NULL") }
  guard let text = String(validatingCString: pointer) else {
    throw .invalid("\(name) is not UTF-8")
  }
  guard text.utf8.count <= limit else {
    throw .invalid("\(name) is longer than \(limit) bytes")
  }
  return text
}
