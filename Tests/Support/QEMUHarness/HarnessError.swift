/// What went wrong while a test's virtual machines were brought up or driven by hand.
public struct HarnessError: Error, CustomStringConvertible, Sendable {
  public let description: String

  public init(_ description: String) {
    self.description = description
  }

  /// An error of the system, named by the call that failed.
  static func system(_ call: String, code: Int32) -> HarnessError {
    HarnessError("\(call): \(errorText(code))")
  }
}
