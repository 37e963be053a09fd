/// libFuzzer's entry: the first eight bytes choose what the owner does, the rest comes from QEMU.
@c(LLVMFuzzerTestOneInput)
public func fuzzOneInput(_ start: UnsafePointer<UInt8>?, _ count: Int) -> Int32 {
  let input = Array(UnsafeBufferPointer(start: start, count: count))
  let seed = input.prefix(8).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
  let stream = Array(input.dropFirst(8))
  do {
    _ = try SessionDriver.check(stream, seed: seed)
    try SessionDriver.checkText(stream)
  } catch {
    fatalError("\(error.text) (seed \(seed))")
  }
  return 0
}
