import Testing

@testable import CLI

@Suite("Quantities")
struct QuantityTests {
  @Test func bytesHaveThreeDigits() {
    let texts: [(UInt64, String)] = [
      (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1536, "1.5 KiB"), (70 << 20, "70.0 MiB"),
      (118 << 20, "118 MiB"), (1 << 30, "1.0 GiB"), ((1 << 30) - 1, "1.0 GiB"),
      (.max, "16.0 EiB"),
    ]
    for (bytes, text) in texts { #expect(Quantity.bytes(bytes) == text, "\(bytes)") }
  }

  @Test func millisecondsAreExact() {
    let texts: [(Int64, String)] = [
      (0, "0.000 ms"), (7, "0.007 ms"), (3214, "3.214 ms"), (-40, "-0.040 ms"),
      (1_203_214, "1203.214 ms"), (.min, "-9223372036854775.808 ms"),
    ]
    for (microseconds, text) in texts {
      #expect(Quantity.milliseconds(microseconds: microseconds) == text)
    }
  }

  @Test func spansAreRounded() {
    let texts: [(UInt64, String)] = [
      (0, "0.0 ms"), (420, "0.4 ms"), (9_940, "9.9 ms"), (9_960, "10 ms"), (14_200, "14 ms"),
      (999_400, "999 ms"), (999_600, "1.0 s"), (2_340_000, "2.3 s"), (59_960_000, "1 min 0 s"),
      (200_000_000, "3 min 20 s"), (.max, "307,445,734,561 min 50 s"),
    ]
    for (microseconds, text) in texts {
      #expect(Quantity.span(microseconds: microseconds) == text, "\(microseconds)")
    }
  }

  @Test func wholeNumbersAreGrouped() {
    let texts: [(UInt64, String)] = [
      (0, "0"), (999, "999"), (1000, "1,000"), (3_412_007, "3,412,007"),
    ]
    for (number, text) in texts { #expect(Quantity.grouped(number) == text) }
  }

  @Test func fixedNumbersNeverTrap() {
    #expect(Quantity.fixed(1.005, decimals: 1) == "1.0")
    #expect(Quantity.fixed(-0.01, decimals: 1) == "0.0")
    #expect(Quantity.fixed(-2.25, decimals: 2) == "-2.25")
    #expect(Quantity.fixed(.nan, decimals: 1) == "?")
    #expect(Quantity.fixed(.infinity, decimals: 1) == "?")
    #expect(Quantity.fixed(1e300, decimals: 3) == "1000000000000.000")
  }
}
