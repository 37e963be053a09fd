import CSwitchover

// The C header passes enumerations as `int`, for they may grow.

extension RawRepresentable where RawValue == UInt32 {
  /// The value as the library's functions take and return it.
  var number: Int32 { Int32(truncatingIfNeeded: rawValue) }
}

/// A constant text of the library, or one that belongs to a handle; copied at once.
func libraryText(_ text: UnsafePointer<CChar>?) -> String {
  text.map { String(cString: $0) } ?? ""
}

/// The library's version, such as "0.1.0".
func libraryVersion() -> String {
  libraryText(swo_version_string())
}

/// A call that the library refused.
struct LibraryError: Error, Equatable {
  /// One of `swo_code`.
  var code: Int32
  var text: String

  /// Throws unless the result is zero or positive, which it passes on.
  @discardableResult
  static func check(_ result: Int32) throws -> Int32 {
    guard result < 0 else { return result }
    throw LibraryError(code: result, text: libraryText(swo_last_error()))
  }

  func has(_ code: swo_code) -> Bool { self.code == code.rawValue }
}
