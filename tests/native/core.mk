# How the core is built for tests: as a library in $(OUT)/libcore.a, under sanitizers. Included by the Makefiles of those who test it.
#
#   OUT         where everything goes
#   SANITIZE    address,undefined unless said otherwise; none: without
#   NATIVE      the core's directory, seen from the Makefile

OUT ?= build
SANITIZE ?= address,undefined
SANITIZING := $(if $(filter none,$(SANITIZE)),,-fsanitize=$(SANITIZE) -fno-sanitize-recover=all)

CFLAGS ?= -O2 -g
CORE_CFLAGS := -std=c11 -D_GNU_SOURCE -Wall -Wextra -Werror -Wshadow -I$(NATIVE)/include -I$(NATIVE)/src \
	$(SANITIZING) -fno-omit-frame-pointer -MMD -MP
LDFLAGS += $(SANITIZING)
LDLIBS := -lisal -lcrypto -lpthread

CORE_OBJECTS := $(patsubst $(NATIVE)/src/%.c,$(OUT)/core/%.o,$(wildcard $(NATIVE)/src/*.c))

core: $(OUT)/libcore.a

$(OUT)/core/%.o: $(NATIVE)/src/%.c | $(OUT)/core
	$(CC) $(CORE_CFLAGS) $(CFLAGS) -c -o $@ $<

$(OUT)/%.o: %.c | $(OUT)/core
	$(CC) $(CORE_CFLAGS) $(CFLAGS) -c -o $@ $<

$(OUT)/libcore.a: $(CORE_OBJECTS)
	rm -f $@ && $(AR) rcs $@ $^

$(OUT)/core:
	mkdir -p $@

.SECONDARY:
.PHONY: core

-include $(wildcard $(OUT)/*.d $(OUT)/core/*.d)
