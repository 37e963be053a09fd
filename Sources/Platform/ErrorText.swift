import CPlatform

/// The calling thread's last error text, in a buffer of fixed size.
public enum ErrorText {
  /// Bytes that the buffer holds, without the closing zero.
  public static let limit = 511

  /// Replaces the text: control characters become spaces, and what is too long is cut at a
  /// character.
  public static func set(_ text: String) {
    var text = text
    text.withUTF8 { bytes in
      bytes.withMemoryRebound(to: CChar.self) { swp_set_last_error($0.baseAddress, $0.count) }
    }
  }

  /// The text as a C string, valid as long as the calling thread; empty before the first error.
  public static var pointer: UnsafePointer<CChar>? { swp_last_error() }
}
