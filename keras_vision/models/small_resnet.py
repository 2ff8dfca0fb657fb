"""tbd"""
def small_resnet(spec, image_shape, num_classes):
    raise NotImplementedError
